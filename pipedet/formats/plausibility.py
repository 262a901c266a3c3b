"""Whether tips were written in another frame than pixels (x right, y down): asked of the images.

A tip is a conspicuous spot, so over many images the right reading of the labels falls on more
contrast than a wrong one. That finds what no single row shows: x and y swapped in square images,
micrometres taken for pixels, y counted upwards, fractions of the image.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from pipedet.formats.scale import PixelSize

MIN_TIPS = 10
SURE = 4.0  # standard errors by which another reading has to fit better


def find_misreadings(
    images: Iterable[tuple[np.ndarray, np.ndarray, PixelSize | None]],
) -> list[str]:
    """Return each other reading of the tips that fits the images clearly better than pixels do.

    Args:
        images: (H, W) pixels, (N, 2) tips in pixels, and the pixel size where known.
    """
    gains: dict[str, list[np.ndarray]] = {}
    for image, tips, pixel_size_um in images:
        if len(tips):
            rank = _conspicuousness(image)
            as_pixels = _at(rank, tips)
            for name, points in _other_readings(tips, image.shape, pixel_size_um).items():
                gains.setdefault(name, []).append(_at(rank, points) - as_pixels)
    found = []
    for name, parts in gains.items():
        gain = np.concatenate(parts)
        if len(gain) < MIN_TIPS or np.isnan(gain).any():  # a reading that leaves the image is none
            continue
        error = gain.std() / np.sqrt(len(gain)) + 1e-3
        if gain.mean() > SURE * error:
            found.append(
                f'{name}? Read so, the {len(gain)} tips lie on more contrast in their images, by '
                f'{gain.mean() / error:.0f} standard errors; write (x, y) in pixels, y downwards'
            )
    return found


def _other_readings(
    tips: np.ndarray, shape: tuple[int, int], pixel_size_um: PixelSize | None
) -> dict[str, np.ndarray]:
    height, width = shape
    readings = {
        'are x and y swapped': tips[:, ::-1],
        'does y count upwards': tips * (1, -1) + (0, height - 1),
        'are they fractions of the image': tips * (width, height),
    }
    if pixel_size_um is not None:
        readings['are they micrometres'] = tips / pixel_size_um
    return readings


def _conspicuousness(image: np.ndarray) -> np.ndarray:
    """Rank every pixel, 0 to 1, by the relative contrast of what is near it."""
    image = image.astype(np.float32)
    fine, coarse, around = (cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (1.5, 4, 8))
    contrast = np.abs(fine - coarse) / np.maximum(around - image.min(), 1e-6)
    contrast = cv2.dilate(contrast, np.ones((5, 5), np.uint8))
    rank = np.empty(contrast.size, np.float32)
    rank[contrast.argsort(axis=None)] = np.linspace(0, 1, contrast.size)
    return rank.reshape(contrast.shape)


def _at(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values at (N, 2) points, NaN outside."""
    x, y = np.rint(points).astype(int).T
    height, width = values.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.where(inside, values[y.clip(0, height - 1), x.clip(0, width - 1)], np.nan)
