"""Scenes as datasets: an endless stream for training and validation, the frozen sets for tests."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.multiprocessing import get_start_method
from torch.utils.data import DataLoader, Dataset

from pipedet.datasets.base import TipDataset, begin_worker
from pipedet.registry import DATASETS
from pipedet.synthesis import LabelledScene, draw_scene, frozen_scene
from pipedet.synthesis.frozen import COUNT, SEED

_SPAWNED = 4  # processes at most, where each begins by importing torch
_RECIPE = 4  # last word of its seed: the scene has 0 to 3, the transforms have none


@DATASETS.register_module()
class SyntheticPipettes(TipDataset):
    """Scenes drawn from recipes.

    Args:
        recipes: share of each recipe, by name.
        length: scenes in an epoch.
        pipeline: transforms, as configs.
        seed: of the stream; training, validation and tests each have their own.
        keep: epochs that a scene is shown for before another takes its place. 1 draws all afresh
            in every epoch that `set_epoch` announces, None keeps the first ones for good; between,
            an equal share is drawn anew in each. Kept images are in memory (a byte or two a pixel,
            in every worker), for where rendering costs a good part of a training step; `prepare`
            draws them on every core.
    """

    def __init__(
        self,
        *,
        recipes: Mapping[str, float],
        length: int,
        pipeline: Sequence[dict],
        seed: int,
        keep: int | None = 1,
    ) -> None:
        if seed == SEED:
            raise ValueError(f'seed {SEED} belongs to the frozen test sets: choose another')
        if isinstance(keep, bool) or (keep is not None and keep < 1):
            raise ValueError(f'keep={keep!r}: write for how many epochs, or None for all')
        super().__init__(pipeline=pipeline, seed=seed)
        self.names, shares = zip(*recipes.items(), strict=True)
        self.shares = np.array(shares) / sum(shares)
        self.length = length
        self.keep = keep
        self._kept: dict[int, tuple[int, dict]] = {}  # the epoch it was drawn in, and the scene

    def __getstate__(self) -> dict:
        """Leave out kept images: a process that is not forked would be sent them all."""
        return self.__dict__ | dict(_kept={})

    @property
    def processes(self) -> int:
        """How many scenes `prepare` draws at a time; drawing one gains little from threads."""
        if self.keep == 1:
            return 1
        forked = get_start_method() == 'fork'
        return torch.get_num_threads() if forked else min(torch.get_num_threads(), _SPAWNED)

    def prepare(self) -> None:
        """Draw all the scenes that are to be kept and are not yet, on every core."""
        missing = [index for index in range(self.length) if not self._has(index)]
        if missing and self.processes > 1:
            drawn = DataLoader(
                _Drawn(self, missing),
                batch_size=None,
                num_workers=self.processes,
                collate_fn=dict,  # in place of the collation that would turn arrays into tensors
                worker_init_fn=begin_worker,
            )
            for index, scene in zip(missing, drawn, strict=True):
                self._kept[index] = (self._born(index), scene)

    def __len__(self) -> int:
        return self.length

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Draw and expose one scene, or return a kept one."""
        if self.keep == 1:
            return self._draw(self.epoch, index)
        if not self._has(index):
            self._kept[index] = (self._born(index), self._draw(self._born(index), index))
        return dict(self._kept[index][1])  # transforms replace what they change

    def _born(self, index: int) -> int:
        """Return the epoch that the current scene at `index` is drawn in."""
        if self.keep is None:
            return 0
        return max(0, self.epoch - (self.epoch + index) % self.keep)

    def _has(self, index: int) -> bool:
        return index in self._kept and self._kept[index][0] == self._born(index)

    def _draw(self, epoch: int, index: int) -> dict:
        rng = np.random.default_rng([self.seed, epoch, index, _RECIPE])
        recipe = str(rng.choice(self.names, p=self.shares))
        drawn = draw_scene(recipe, seed=self.seed, epoch=epoch, index=index)
        return self.results_of(drawn, recipe, index)

    def results_of(self, drawn: LabelledScene, recipe: str, index: int) -> dict:
        """Expose a scene; a subclass may add to it."""
        return describe_scene(drawn, drawn.capture(), recipe, index)

    def describe(self) -> str:
        """One line for the log."""
        recipes = ', '.join(
            f'{100 * s:.0f} % {n}' for n, s in zip(self.names, self.shares, strict=True)
        )
        kinds = {None: 'kept', 1: 'fresh'}
        kind = kinds.get(self.keep, f'each for {self.keep} epochs')
        return f'{self.length} synthetic scenes an epoch, {kind} ({recipes}), seed {self.seed}'


class _Drawn(Dataset):
    """The scenes of an endless stream, as they are kept."""

    def __init__(self, scenes: SyntheticPipettes, indices: Sequence[int]) -> None:
        self.scenes, self.indices = scenes, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, item: int) -> dict:
        index = self.indices[item]
        return self.scenes._draw(self.scenes._born(index), index)


@DATASETS.register_module()
class FrozenPipettes(TipDataset):
    """One of the three frozen test sets: `clear`, `standard` or `starved`.

    Args:
        subset: name of the set.
        pipeline: transforms, as configs.
        count: scenes, from the first; all 500 for any figure that is to be compared.
    """

    def __init__(self, *, subset: str, pipeline: Sequence[dict], count: int = COUNT) -> None:
        super().__init__(pipeline=pipeline, seed=0)
        if not 1 <= count <= COUNT:
            raise ValueError(f'count={count}: a frozen set has {COUNT} scenes')
        self.subset, self.count = subset, count

    def __len__(self) -> int:
        return self.count

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Draw one scene, check it against the manifest, and expose it."""
        drawn, cnr = frozen_scene(self.subset, index)
        results = describe_scene(drawn, drawn.capture(), self.subset, index)
        results['tip_fields']['cnr'] = cnr
        return results

    def describe(self) -> str:
        """One line for the log."""
        return f'frozen set {self.subset!r}: {self.count} of {COUNT} synthetic scenes'


def describe_scene(drawn: LabelledScene, image: np.ndarray, subset: str, index: int) -> dict:
    """Return the results dict of one view of a scene."""
    pixel_size = float(drawn.scene.pixel_size_um[0])
    pipettes, labelled = drawn.scene.pipettes, drawn.labelled
    angle = pipettes.angle[0, labelled]
    fields = dict(direction=torch.stack([angle.cos(), angle.sin()], dim=-1).numpy())
    if drawn.scene.modality != 'twophoton':  # which looks alike above and below the focus
        fields['z_um'] = pipettes.z_um[0, labelled].numpy()
    return dict(
        image=image,
        tips=drawn.tips.numpy(),
        tip_fields=fields,
        source=f'synthetic/{subset}/{index:06d}',
        frame=0,
        session=drawn.session,
        subset=subset,
        pixel_size_um=(pixel_size, pixel_size),
    )
