"""Frozen scenes spoiled by Pipette-C, to see what a localiser comes through."""

from collections.abc import Sequence

import numpy as np

from pipedet.datasets.synthetic import FrozenPipettes
from pipedet.registry import DATASETS
from pipedet.synthesis.corruptions import CORRUPTIONS, Frame, corrupt

_PIPETTE_C = 20260101  # first word of every generator; with it the spoiled sets are fixed as well


@DATASETS.register_module()
class CorruptedPipettes(FrozenPipettes):
    """A frozen set, every image spoiled in one way.

    Args:
        subset: name of the frozen set.
        corruption: name of the corruption, see `synthesis.corruptions`.
        severity: 1 to 5.
        pipeline: transforms, as configs.
    """

    def __init__(
        self,
        *,
        subset: str,
        corruption: str,
        severity: int,
        pipeline: Sequence[dict],
    ) -> None:
        super().__init__(subset=subset, pipeline=pipeline)
        if corruption not in CORRUPTIONS:
            raise ValueError(
                f'no corruption named {corruption!r}; there are {", ".join(CORRUPTIONS)}'
            )
        self.corruption, self.severity = corruption, severity

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Draw one scene and spoil its image; float32 in shares of the file's range."""
        results = super().load(index, rng)
        kind = list(CORRUPTIONS).index(self.corruption)
        own = np.random.default_rng([_PIPETTE_C, kind, self.severity, index])
        full = np.iinfo(results['image'].dtype).max
        frame = Frame(results['image'] / full, results['tips'], results['tip_fields']['direction'])
        spoiled = corrupt(self.corruption, self.severity, frame, own)
        results['image'] = spoiled.image.astype(np.float32)
        results['tips'] = spoiled.tips.astype(np.float32)
        return results

    def describe(self) -> str:
        """One line for the log."""
        return f'{super().describe()}, {self.corruption} of severity {self.severity}'
