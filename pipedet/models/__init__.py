"""Detectors and the parts that they are assembled from."""

from pipedet.models.detectors import CoarseToFineDetector, HeatmapDetector, TipDetector
from pipedet.models.encoders import TimmPyramid, TimmTransformer
from pipedet.models.heatmap_head import HeatmapHead
from pipedet.models.losses import DiceLoss, PeakFocalLoss, TipDistanceLoss
from pipedet.models.matchers import HungarianMatcher
from pipedet.models.preprocessor import TipPreprocessor
from pipedet.models.slot_head import ResNetHead, SlotHead
