"""Micrographs of immunogold beads: dark discs whose diameter tells what they label, and decoys.

A transmission electron micrograph is grey, uneven and grainy; gold stands 11 to 39 grey levels of
256 below it, in discs of 4 to 10 px in radius (the task of MidasMap, whose 1790 px/um make 6 nm
10.7 px across). Membranes and vesicles are as dark, and what is as large as a bead may be hollow,
faint or pale. Points are (x, y) pixels, x right, y down, centres at integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

SIZE = (2048, 2115)  # (H, W)
# Diameters in px of 6 and 12 nm beads, as (least, largest); between kinds there must be a gap.
DIAMETERS = ((8.0, 12.0), (16.0, 20.0))
DEPTH = (11.0, 39.0)  # grey levels below what is around
APART = 28.0  # px between the centres of any two discs
BLUR = 1.4  # px, sigma of the microscope's
_MARGIN = 11  # px from the border: no bead is cut
_GAP = 2.0  # px between the diameters of two kinds
_GAIN = 4.0  # electrons a grey level: the noise of level 150 has a deviation of 6
_TRIES = 50  # candidates for each place
_BILAYER, _LINE = 12, 4  # px between a membrane's two lines, 7 nm, and their width

# How many there are in a million pixels.
_MEMBRANES, _VESICLES, _DECOYS = 12, 60, 24


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One scene, with the truth about it."""

    image: np.ndarray  # (H, W) uint8
    points: np.ndarray  # (N, 2) float32, centres of the beads
    kinds: np.ndarray  # (N,) int64, which of the ranges of diameters
    mask: np.ndarray  # (H, W) bool, the region of interest; what lies outside does not count


def draw_micrograph(
    rng: np.random.Generator,
    *,
    size: tuple[int, int] = SIZE,
    diameters: Sequence[tuple[float, float]] = DIAMETERS,
    beads: int = 45,
) -> Micrograph:
    """Draw a scene.

    Args:
        rng: the only source of chance.
        size: (H, W), pixels.
        diameters: (least, largest) of each kind in px, smallest kind first.
        beads: how many, of all kinds alike; some lie outside of the mask.

    Raises:
        ValueError: two kinds have no gap between their diameters, or the image is too small for
            so many beads.
    """
    for (_, below), (above, _) in pairwise(diameters):
        if above - below < _GAP:
            raise ValueError(
                f'diameters {tuple(diameters)}: kinds ending at {below:g} px and beginning at '
                f'{above:g} px cannot be told apart; leave at least {_GAP:g} px between them'
            )
    millions = size[0] * size[1] / 1e6
    level = rng.uniform(135, 165) + _unevenness(rng, size)
    lines, paths = _membranes(rng, size, round(_MEMBRANES * millions))
    _draw_vesicles(rng, lines, round(_VESICLES * millions))
    depth = lines.astype(np.float32)

    # Receptors sit at membranes: half of the beads are sought there.
    candidates = np.concatenate([_anywhere(rng, size, _TRIES * beads), _beside(rng, paths, beads)])
    points = _scatter(rng.permutation(candidates), np.empty((0, 2)), beads, size)
    if len(points) < beads:
        raise ValueError(
            f'{beads} beads, {APART:g} px apart, do not fit on {size[1]}x{size[0]} pixels: ask for '
            'fewer, or for a larger image'
        )
    kinds = rng.integers(len(diameters), size=beads)
    low, high = np.array(diameters, float)[kinds].T
    for point, diameter in zip(points, rng.uniform(low, high), strict=True):
        _add_disc(depth, point, diameter, rng.uniform(*DEPTH))
    decoys = round(_DECOYS * millions)
    places = _scatter(_anywhere(rng, size, _TRIES * decoys), points, decoys, size)
    _draw_decoys(rng, depth, places, (diameters[0][0], diameters[-1][1]))

    expected = level - cv2.GaussianBlur(depth, (0, 0), BLUR)
    counts = rng.poisson(np.maximum(expected, 1) * _GAIN)
    return Micrograph(
        image=np.clip(np.round(counts / _GAIN), 0, 255).astype(np.uint8),
        points=points.astype(np.float32),
        kinds=kinds,
        mask=_region(rng, size),
    )


def _unevenness(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Shading of the section, and texture of the cytoplasm at two scales; grey levels."""
    grains = ((max(size) / 4, 9.0), (28, 4.0), (8, 2.5))  # px, deviation
    return sum(_noise(rng, size, grain, deviation) for grain, deviation in grains)


def _noise(
    rng: np.random.Generator, size: tuple[int, int], grain: float, deviation: float
) -> np.ndarray:
    """Smooth noise (H, W) float32 whose lumps are `grain` px wide."""
    coarse = rng.standard_normal([int(side / grain) + 3 for side in size], dtype=np.float32)
    fine = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return deviation * fine / coarse.std()


def _membranes(
    rng: np.random.Generator, size: tuple[int, int], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Winding double lines: return their depth (H, W) uint8, and points (M, 2) on them."""
    canvas, paths = np.zeros(size, np.uint8), [np.empty((0, 2))]
    for _ in range(count):
        steps = rng.integers(20, 60)
        heading = rng.uniform(0, 2 * np.pi) + 0.12 * rng.standard_normal(steps).cumsum()
        along = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        path = rng.uniform(0, size[::-1]) + (8 * along).cumsum(axis=0)
        across = along[:, ::-1] * (1, -1)
        shade = int(rng.integers(8, 28))
        for side in (-_BILAYER / 2, _BILAYER / 2):
            _polyline(canvas, path + side * across, shade)
        paths.append(path)
    return canvas, np.concatenate(paths)


def _polyline(canvas: np.ndarray, path: np.ndarray, shade: int) -> None:
    fixed = np.round(path * 16).astype(np.int32)  # 4 bits behind the point
    cv2.polylines(canvas, [fixed], False, shade, _LINE, cv2.LINE_AA, 4)


def _draw_vesicles(rng: np.random.Generator, canvas: np.ndarray, count: int) -> None:
    """Rings of 20 to 45 nm: larger than any bead, hollow, and as dark."""
    for x, y in _anywhere(rng, canvas.shape, count):
        centre = (round(16 * x), round(16 * y))
        radius = round(16 * rng.uniform(20, 40))
        cv2.circle(canvas, centre, radius, int(rng.integers(8, 28)), _LINE, cv2.LINE_AA, 4)


def _draw_decoys(
    rng: np.random.Generator, depth: np.ndarray, places: np.ndarray, span: tuple[float, float]
) -> None:
    """Draw what looks like a bead and is none; `span` is the range of the beads' diameters."""
    for place in places:
        diameter, dark = rng.uniform(*span), rng.uniform(*DEPTH)
        match rng.integers(4):
            case 0:  # hollow: a small vesicle in cross-section
                _add_disc(depth, place, diameter + 4, dark)
                _add_disc(depth, place, diameter - 4, -dark)
            case 1:  # too large: a dense-core vesicle
                _add_disc(depth, place, span[1] + rng.uniform(8, 28), dark)
            case 2:  # too faint: dirt
                _add_disc(depth, place, diameter, rng.uniform(2, 5))
            case 3:  # pale: a hole in the stain
                _add_disc(depth, place, diameter, -dark)


def _add_disc(depth: np.ndarray, place: np.ndarray, diameter: float, amount: float) -> None:
    """Add a disc to (H, W) in place; a pixel on its rim gets the part of it that is covered."""
    reach = int(diameter / 2) + 2
    left, top = np.round(place).astype(int) - reach
    rows, columns = (
        slice(max(top, 0), top + 2 * reach + 1),
        slice(max(left, 0), left + 2 * reach + 1),
    )
    own = depth[rows, columns]
    y, x = np.ogrid[
        rows.start : rows.start + own.shape[0], columns.start : columns.start + own.shape[1]
    ]
    away = np.hypot(x - place[0], y - place[1])
    own += np.float32(amount) * np.clip(diameter / 2 - away + 0.5, 0, 1)


def _anywhere(rng: np.random.Generator, size: tuple[int, int], count: int) -> np.ndarray:
    return rng.uniform(0, size[::-1], (count, 2))


def _beside(rng: np.random.Generator, paths: np.ndarray, beads: int) -> np.ndarray:
    """Return as many candidates near membranes as there are anywhere, if there are membranes."""
    count = _TRIES * beads if len(paths) else 0
    sites = paths[rng.integers(max(len(paths), 1), size=count)]
    return sites + rng.normal(scale=20, size=(count, 2))


def _scatter(
    candidates: np.ndarray, taken: np.ndarray, count: int, size: tuple[int, int]
) -> np.ndarray:
    """Return the first `count` candidates, or fewer, clear of each other and of `taken`."""
    limit = np.array(size[::-1]) - 1 - _MARGIN
    candidates = candidates[((candidates >= _MARGIN) & (candidates <= limit)).all(axis=1)]
    places, found = np.concatenate([taken, np.empty((count, 2))]), len(taken)
    for candidate in candidates:
        if found == len(places):
            break
        x, y = (places[:found] - candidate).T
        if (x * x + y * y >= APART**2).all():
            places[found] = candidate
            found += 1
    return places[len(taken) : found]


def _region(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A round outline with dents, as drawn by hand round what is of interest; (H, W) bool."""
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    first, second = rng.uniform(0, 2 * np.pi, 2)
    reach = 0.46 + 0.04 * np.cos(2 * turn + first) + 0.03 * np.cos(3 * turn + second)
    outline = np.stack([np.cos(turn), np.sin(turn)], axis=1) * reach[:, None] + 0.5
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round(outline * size[::-1]).astype(np.int32)], 1)
    return mask.astype(bool)
