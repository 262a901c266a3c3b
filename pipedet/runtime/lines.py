"""Lines of an image that carry no signal, as a scanner or a camera loses them.

A line is dead if all its pixels are equal, at a level that few others have: a living one has noise.
It stands out against its neighbours more than any tip, and a network that has never seen one is
wrong without a doubt of its own, where the lines beside it tell nearly all that is lost.
"""

import numpy as np

_WIDEST = 8  # lines side by side; a wider band is a border or a mask, and nobody's to make up
_SHORTEST = 16  # pixels; a few are equal by chance
_COMMON = 0.1  # of the other pixels at its level: a line there is dark, or saturated, as they are
_SAMPLES = 32  # pixels of a line that tell most living ones from a dead one


def dead_lines(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows (H,) and which columns (W,) of an (H, W) image are dead, as booleans."""
    rows = _dead_rows(image)
    columns = _dead_rows(image[~rows].T if rows.any() else image.T)
    if columns.any():  # of another level, they hide the rows that they cross
        rows = _dead_rows(image[:, ~columns])
    return rows, columns


def count_dead_lines(image: np.ndarray) -> int:
    """Return how many rows and columns of an (H, W) image are dead."""
    return sum(int(dead.sum()) for dead in dead_lines(image))


def fill_dead_lines(image: np.ndarray) -> np.ndarray:
    """Return an (H, W) image with dead lines taken linearly from the nearest living ones.

    One without any is returned as it is, any other as float32.
    """
    rows, columns = dead_lines(image)
    if rows.any():
        image = _fill_rows(image, rows)
    if columns.any():
        image = _fill_rows(image.T, columns).T
    return image


def _dead_rows(image: np.ndarray) -> np.ndarray:
    apart = -(-image.shape[1] // _SAMPLES)
    even = (image[:, ::apart] == image[:, :1]).all(axis=1)
    if not even.any():  # as nearly always
        return even
    even &= (image == image[:, :1]).all(axis=1)
    if image.shape[1] < _SHORTEST or even.all():  # from nothing nothing is filled in
        return np.zeros_like(even)
    dead = even.copy()
    edges = np.flatnonzero(np.diff(even, prepend=False, append=False))
    for first, end in edges.reshape(-1, 2):
        dead[first:end] = end - first <= _WIDEST
    for level in np.unique(image[dead, 0]):
        if (image[~even] == level).mean() > _COMMON:
            dead &= image[:, 0] != level
    return dead


def _fill_rows(image: np.ndarray, dead: np.ndarray) -> np.ndarray:
    filled, alive = image.astype(np.float32), np.flatnonzero(~dead)
    places = np.flatnonzero(dead)
    after = np.searchsorted(alive, places)
    above, below = alive[np.maximum(after - 1, 0)], alive[np.minimum(after, len(alive) - 1)]
    share = (places - above) / np.maximum(below - above, 1)
    share = np.float32(share.clip(0, 1))[:, None]  # beyond the last living line it goes on
    filled[places] = filled[above] + share * (filled[below] - filled[above])
    return filled
