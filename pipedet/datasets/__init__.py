"""Datasets and the transforms of their pipelines."""

from pipedet.datasets.base import TipDataset
from pipedet.datasets.beads import BeadMicrographs, BeadPatches, PackBeads
from pipedet.datasets.corrupted import CorruptedPipettes
from pipedet.datasets.joint import JointPipettes
from pipedet.datasets.packing import PackTips, Photometric
from pipedet.datasets.pairs import (
    ClearScenes,
    CropAtTip,
    PackPair,
    ScenePairs,
    ToUnit,
    UnpairedDomains,
)
from pipedet.datasets.pipette_images import DatasetError, PipetteImages
from pipedet.datasets.sampler import EpochSampler
from pipedet.datasets.synthetic import FrozenPipettes, SyntheticPipettes
from pipedet.datasets.transforms import (
    RandomFlip,
    RandomRotate,
    RandomScale,
    RandomTurn,
    Resize,
    ToPixelSize,
    Warp,
)
