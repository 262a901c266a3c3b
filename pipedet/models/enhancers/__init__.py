"""Enhancers: what trains an image-to-image network, the networks, and how localisers apply them."""

from pipedet.models.enhancers.base import AdversarialEnhancer, Enhancer
from pipedet.models.enhancers.classical import CLAHE, NonLocalMeans, TopHat
from pipedet.models.enhancers.cyclegan import CycleGANEnhancer
from pipedet.models.enhancers.enhancement import Enhancement
from pipedet.models.enhancers.generators import PatchCritic, ResNetGenerator, UNetGenerator
from pipedet.models.enhancers.pix2pix import Pix2PixEnhancer
from pipedet.models.enhancers.runet import MonaiGenerator, RUNet
from pipedet.models.enhancers.runet_enhancer import RUNetEnhancer
