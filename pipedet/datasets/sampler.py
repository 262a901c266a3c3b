"""The order of a training epoch, enterable in its middle."""

from collections.abc import Iterator
from itertools import islice

from mmengine.dataset import DefaultSampler


class EpochSampler(DefaultSampler):
    """mmengine's sampler, whose order depends on (seed, epoch) alone, from its `start`-th sample.

    Attributes:
        start: samples of this rank to leave out; a resumed epoch has seen them.
    """

    start = 0

    def __iter__(self) -> Iterator[int]:
        """Iterate over what is left of the epoch."""
        return islice(super().__iter__(), self.start, None)
