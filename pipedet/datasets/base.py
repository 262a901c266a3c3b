"""The base of every dataset: one random generator a sample, counted out from (seed, epoch, index).

A sample's draws then depend on nothing else: not on the number of workers, nor on a restart. An
image that cannot be read stays in its batch as a sample without pixels, for the loops to count.
"""

import signal
from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from pipedet.structures import META_KEYS, TipDataSample


class TipDataset(Dataset):
    """Load a sample with its own generator, then run the pipeline on it.

    Args:
        pipeline: transforms, as configs; each takes and returns the results dict.
        seed: first word of every sample's generator.
    """

    metainfo: dict = {}  # mmengine's loops warn about a dataset that has none

    def __init__(self, *, pipeline: Sequence[dict], seed: int) -> None:
        self.pipeline = Compose(pipeline)
        self.seed = seed
        # Shared memory, because a persistent worker keeps its own copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch whose draws these are."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Make the draws those of this epoch."""
        self._epoch.fill_(epoch)

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Return the results dict of one sample.

        It has `image` (H, W), `tips` (N, 2) in pixels of that image, `tip_fields` (arrays by name,
        a row a tip), and `source`, `frame`, `session`, `subset`, `pixel_size_um`. Where the image
        cannot be read, `image` is the `ImageReadError`.
        """
        raise NotImplementedError

    def images(self) -> list[dict]:
        """Return `image`, `frame` and `session` of each file read; drawn scenes are none."""
        return []

    def __getitem__(self, index: int) -> dict:
        """Load and transform one sample."""
        rng = np.random.default_rng([self.seed, self.epoch, index])
        results = self.load(index, rng)
        results['rng'] = rng
        results['matrix'] = np.eye(3)
        if isinstance(results['image'], Exception):
            return _without_pixels(results)
        results['ori_shape'] = results['img_shape'] = results['image'].shape
        return self.pipeline(results)


def _without_pixels(results: dict) -> dict:
    known = {key: results[key] for key in META_KEYS if key in results}
    sample = TipDataSample(metainfo=known | dict(fault=str(results['image'])))
    sample.gt_tips = InstanceData(points=torch.from_numpy(results['tips']))
    return dict(inputs=None, data_samples=sample)


def begin_worker(worker: int, then: Callable[[int], None] | None = None) -> None:
    """Begin a process that loads samples: Ctrl-C reaches it too, and is the main process's to heed.

    Args:
        worker: number of the process.
        then: what else it begins with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if then is not None:
        then(worker)
