"""Detectors and the parts that they are assembled from."""

from pipedet.models.bifpn import TimmBiFPN
from pipedet.models.center_head import CenterHead
from pipedet.models.center_net import CenterNet
from pipedet.models.detectors import (
    CoarseToFineDetector,
    DirectDetector,
    HeatmapDetector,
    TipNet,
)
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
from pipedet.models.ensemble import SeedEnsemble
from pipedet.models.grid_head import GridHead
from pipedet.models.heatmap_head import HeatmapHead
from pipedet.models.image_losses import MixedImageLoss
from pipedet.models.losses import ChamferLoss, DiceLoss, PeakFocalLoss, TipDistanceLoss
from pipedet.models.matchers import DistanceCost, GreedyMatcher, HungarianMatcher
from pipedet.models.preprocessor import PairPreprocessor, TipPreprocessor
from pipedet.models.simcc_head import BinLoss, SimCCHead
from pipedet.models.slot_head import BackboneHead, CNNHead, SlotHead
from pipedet.models.tip_detector import TipDetector
from pipedet.models.tip_head import TipHead
from pipedet.models.transformer_head import Patches, TransformerHead
