"""Several datasets as one; every sample keeps the name of its own."""

from collections.abc import Sequence

from torch.utils.data import ConcatDataset

from pipedet.registry import DATASETS


@DATASETS.register_module()
class JointPipettes(ConcatDataset):
    """The samples of `sets`, one after the other.

    Args:
        sets: configs of datasets.
    """

    metainfo: dict = {}  # mmengine's loops warn about a dataset that has none

    def __init__(self, *, sets: Sequence[dict]) -> None:
        super().__init__([DATASETS.build(config) for config in sets])

    def prepare(self) -> None:
        """Draw the scenes that any set keeps."""
        for part in self.datasets:
            if hasattr(part, 'prepare'):
                part.prepare()

    def set_epoch(self, epoch: int) -> None:
        """Tell every set the epoch."""
        for part in self.datasets:
            part.set_epoch(epoch)

    def images(self) -> list[dict]:
        """Return the images of all sets, see `TipDataset`."""
        return [image for part in self.datasets for image in part.images()]

    def describe(self) -> str:
        """One line for the log."""
        return '; '.join(part.describe() for part in self.datasets)
