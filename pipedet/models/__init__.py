"""Detectors and the parts that they are assembled from."""

from pipedet.models.detectors import CoarseToFineDetector, HeatmapDetector, TipDetector
from pipedet.models.encoders import TimmPyramid, TimmTransformer
from pipedet.models.enhancers import (
    CLAHE,
    AdversarialEnhancer,
    CycleGANEnhancer,
    Enhancement,
    Enhancer,
    MonaiGenerator,
    NonLocalMeans,
    PatchCritic,
    Pix2PixEnhancer,
    ResNetGenerator,
    RUNet,
    RUNetEnhancer,
    TopHat,
    UNetGenerator,
)
from pipedet.models.heatmap_head import HeatmapHead
from pipedet.models.image_losses import MixedImageLoss
from pipedet.models.losses import DiceLoss, PeakFocalLoss, TipDistanceLoss
from pipedet.models.matchers import HungarianMatcher
from pipedet.models.preprocessor import PairPreprocessor, TipPreprocessor
from pipedet.models.slot_head import ResNetHead, SlotHead
