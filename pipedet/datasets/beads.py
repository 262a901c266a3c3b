"""Bead micrographs as datasets: patches that are never seen twice, and whole images to test on.

A few large micrographs are drawn once and kept in memory (4 MB each, in every worker). Patches
are cut afresh in every epoch, most of them near beads (hard mining), and beads are copied into them
from elsewhere (copy-paste): with 45 beads in four million pixels a network would otherwise see
little but background, and learn the few beads by heart (MidasMap, "overfitting on fixed patches").
"""

from collections.abc import Sequence

import numpy as np
import torch

from pipedet.datasets.base import TipDataset
from pipedet.datasets.packing import PackTips
from pipedet.registry import DATASETS, TRANSFORMS
from pipedet.synthesis.beads import APART, DIAMETERS, SIZE, Micrograph, draw_micrograph

_SCENE = 7  # last word of a micrograph's seed: patches have none
# A copied bead goes with all pixels nearer than the first, and fades out up to the second: beyond
# it a neighbour may begin, which is `APART` away and up to 10 px in radius.
_WHOLE, _FADED = 12.5, APART - 10.0
_REACH = int(_FADED)
_TRIES = 20  # places tried for each copy


@DATASETS.register_module()
class BeadMicrographs(TipDataset):
    """Whole micrographs.

    Args:
        micrographs: how many.
        pipeline: transforms, as configs, ending in `PackBeads`.
        seed: of the micrographs; training, validation and tests each have their own.
        size: (H, W) of each, pixels.
        diameters: of each kind of bead, see `draw_micrograph`.
        beads: in each micrograph.
    """

    def __init__(
        self,
        *,
        micrographs: int,
        pipeline: Sequence[dict],
        seed: int,
        size: tuple[int, int] = SIZE,
        diameters: Sequence[tuple[float, float]] = DIAMETERS,
        beads: int = 45,
    ) -> None:
        super().__init__(pipeline=pipeline, seed=seed)
        self.micrographs = micrographs
        self.scene = dict(size=tuple(size), diameters=diameters, beads=beads)
        self._kept: dict[int, Micrograph] = {}

    def __len__(self) -> int:
        return self.micrographs

    def prepare(self) -> None:
        """Draw all micrographs that are not drawn yet."""
        for number in range(self.micrographs):
            self.micrograph(number)

    def micrograph(self, number: int) -> Micrograph:
        """Return one of the micrographs, the same in every epoch."""
        if number not in self._kept:
            rng = np.random.default_rng([self.seed, number, _SCENE])
            self._kept[number] = draw_micrograph(rng, **self.scene)
        return self._kept[number]

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Return one micrograph."""
        scene = self.micrograph(index)
        return self._describe(index, scene.image, scene.points, scene.kinds, scene.mask)

    def _describe(
        self,
        number: int,
        image: np.ndarray,
        points: np.ndarray,
        kinds: np.ndarray,
        mask: np.ndarray,
    ) -> dict:
        """Return the results dict; beside that of every dataset it has the `mask` of the image."""
        return dict(
            image=image,
            tips=points,
            tip_fields=dict(kind=kinds),
            mask=mask,
            source=f'beads/{self.seed}/{number:03d}',
            frame=0,
            session=f'micrograph {number}',
            subset='beads',
            pixel_size_um=None,  # a scene of pixels: radii of beads and of metrics are in px
        )

    def describe(self) -> str:
        """One line for the log."""
        height, width = self.scene['size']
        beads = f'{self.scene["beads"]} beads of {len(self.scene["diameters"])} kinds'
        return f'{self.micrographs} micrographs of {width}x{height} px, {beads}, seed {self.seed}'


@DATASETS.register_module()
class BeadPatches(BeadMicrographs):
    """Patches of micrographs, drawn afresh in every epoch that `set_epoch` announces.

    Args:
        length: patches in an epoch.
        patch: their side, pixels.
        near_beads: share of patches that are cut round a bead, which lies anywhere in their middle
            half; the others are cut anywhere.
        pasted: the most beads copied into a patch; 0 to so many are.
        scene: the arguments of `BeadMicrographs`.

    Raises:
        ValueError: a micrograph is smaller than a patch.
    """

    def __init__(self, *, length: int, patch: int, near_beads: float, pasted: int, **scene) -> None:
        super().__init__(**scene)
        if patch > min(self.scene['size']):
            raise ValueError(
                f'patches of {patch} px do not fit into micrographs of {self.scene["size"]} px '
                '(H, W): choose a smaller patch or a larger size'
            )
        self.length, self.patch = length, patch
        self.near_beads, self.pasted = near_beads, pasted

    def __len__(self) -> int:
        return self.length

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Cut one patch and paste beads into it."""
        number = int(rng.integers(self.micrographs))
        scene = self.micrograph(number)
        left, top = self._corner(scene, rng)
        here = slice(top, top + self.patch), slice(left, left + self.patch)
        points = scene.points - np.array([left, top], np.float32)
        # A bead cut by the border is labelled as long as its centre is in the patch.
        inside = ((points >= -0.5) & (points < self.patch - 0.5)).all(axis=1)
        image, points, kinds = paste_beads(
            scene.image[here].astype(np.float32),
            points[inside],
            scene.kinds[inside],
            source=self.micrograph(int(rng.integers(self.micrographs))),
            count=int(rng.integers(self.pasted + 1)),
            rng=rng,
        )
        return self._describe(number, image, points, kinds, scene.mask[here])

    def _corner(self, scene: Micrograph, rng: np.random.Generator) -> tuple[int, int]:
        """Return left and top of the next patch."""
        last = np.array(scene.image.shape[::-1]) - self.patch
        corner = rng.integers(last + 1)
        if rng.random() < self.near_beads and len(scene.points):
            bead = scene.points[rng.integers(len(scene.points))]
            within = rng.uniform(0.25, 0.75, 2) * self.patch
            corner = np.clip(np.round(bead - within).astype(int), 0, last)
        return int(corner[0]), int(corner[1])

    def describe(self) -> str:
        """One line for the log."""
        return f'{self.length} patches of {self.patch} px an epoch, from {super().describe()}'


def paste_beads(
    image: np.ndarray,
    points: np.ndarray,
    kinds: np.ndarray,
    *,
    source: Micrograph,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Copy beads of another micrograph into an image, and label them.

    A copy keeps its depth below what is around: the grey level round it is moved to that round its
    new place. It moves by whole pixels, so that nothing is resampled. Copies for which no free
    place is found are left out.

    Args:
        image: (H, W) float32; the result is another array.
        points: (N, 2), beads that are in it already.
        kinds: (N,).
        source: where copies come from.
        count: how many to paste.
        rng: the source of chance.

    Returns:
        image, points (N + M, 2) float32 and kinds (N + M,).
    """
    image, points, kinds = image.copy(), list(points), list(kinds)
    room = np.array(source.image.shape[::-1]) - 1 - _REACH - 1
    whole = np.flatnonzero(((source.points > _REACH + 1) & (source.points < room)).all(axis=1))
    for bead in rng.choice(whole, size=count) if len(whole) else ():
        middle = np.round(source.points[bead]).astype(int)
        target = _free_place(image.shape, points, rng)
        if target is None:
            continue
        fraction = source.points[bead] - middle
        here, there = _window(target), _window(middle)
        weight, ring = _blend(fraction)
        copy = source.image[there].astype(np.float32)
        copy += image[here][ring].mean() - copy[ring].mean()
        image[here] += weight * (copy - image[here])
        points.append((target + fraction).astype(np.float32))
        kinds.append(source.kinds[bead])
    return image, np.array(points, np.float32).reshape(-1, 2), np.array(kinds, np.int64)


def _free_place(
    shape: tuple[int, int], points: Sequence[np.ndarray], rng: np.random.Generator
) -> np.ndarray | None:
    """Return a pixel (x, y) far enough from the border and from all beads, if one is found."""
    for place in rng.integers(_REACH, np.array(shape[::-1]) - _REACH, (_TRIES, 2)):
        # One pixel more than `APART`: the copy lies up to half a pixel off in x and in y.
        if not points or np.hypot(*(np.array(points) - place).T).min() > APART + 1:
            return place
    return None


def _window(middle: np.ndarray) -> tuple[slice, slice]:
    x, y = middle
    return slice(y - _REACH, y + _REACH + 1), slice(x - _REACH, x + _REACH + 1)


def _blend(fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of a copy round its centre, and the ring where it fades out, (n, n)."""
    y, x = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1]
    away = np.hypot(x - fraction[0], y - fraction[1])
    weight = np.clip((_FADED - away) / (_FADED - _WHOLE), 0, 1).astype(np.float32)
    return weight, (weight > 0) & (weight < 1)


@TRANSFORMS.register_module()
class PackBeads(PackTips):
    """`PackTips`, and what beads have besides: `gt_tips.kind` (N,) long, and the sample's `mask`.

    The mask (H, W) bool is in pixels of the original image, as predictions are.
    """

    def transform(self, results: dict) -> dict:
        """Leave everything else behind."""
        packed = super().transform(results)
        sample = packed['data_samples']
        sample.gt_tips.kind = sample.gt_tips.kind.long()
        sample.mask = torch.from_numpy(results['mask'].copy())
        return packed
