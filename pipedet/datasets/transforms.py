"""Geometry: transforms compose one matrix, and `Warp` moves image and tips by it, once.

`results['matrix']` takes original pixels to current ones, centres at integers: a flip is W-1-x, a
resize by s is (x+0.5)s-0.5. Until `Warp`, `image` and `tips` are still the original ones.
"""

import numpy as np
from mmcv.transforms import BaseTransform

from pipedet.formats.images import MAX_PIXELS
from pipedet.registry import TRANSFORMS
from pipedet.runtime.frames import warp
from pipedet.runtime.lines import fill_dead_lines
from pipedet.structures import apply_affine

_NEARLY_SQUARE = 1.1  # sides of a pixel; to resample would smooth its noise for little
_LARGEST = 4 * MAX_PIXELS  # of what a wrong pixel size may make of an image


def affine(linear: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(3, 3) matrix of a (2, 2) linear part and an (x, y) offset."""
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = offset
    return matrix


def about_centre(linear: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(3, 3) matrix that applies `linear` about the centre of an (H, W) image."""
    centre = (np.array(shape[::-1]) - 1) / 2
    return affine(linear, centre - linear @ centre)


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Stretch to (H, W), or to a square of that side."""

    def __init__(self, *, size: int | tuple[int, int]) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def transform(self, results: dict) -> dict:
        """Compose the resize."""
        scale = np.array(self.size[::-1]) / np.array(results['img_shape'][::-1])  # (x, y)
        results['matrix'] = affine(np.diag(scale), (scale - 1) / 2) @ results['matrix']
        results['img_shape'] = self.size
        return results


@TRANSFORMS.register_module()
class ToPixelSize(BaseTransform):
    """Bring pixels to a size that a network has been trained at, and to squares.

    An image whose pixels have such a size, and are square or nearly so, keeps them as they are. One
    without a scale is taken to show a field as wide as those trained on.

    Args:
        low: least size of a pixel, um.
        high: largest size, um.
        side: pixels of the shorter side of an image without a scale.

    Raises:
        ValueError: the image would become larger than any that is read.
    """

    def __init__(self, *, low: float, high: float, side: int) -> None:
        self.low, self.high, self.side = low, high, side

    def transform(self, results: dict) -> dict:
        """Compose the scaling, if any is needed."""
        shape = np.array(results['img_shape'][::-1])  # (W, H)
        if results['pixel_size_um'] is None:
            scale = np.full(2, self.side / shape.min())
        else:
            size = np.array(results['pixel_size_um'])
            square = size.max() <= _NEARLY_SQUARE * size.min()
            scale = size / np.clip(size if square else np.sqrt(size.prod()), self.low, self.high)
        new = np.maximum(np.round(shape * scale), 1).astype(int)
        if new.prod() > _LARGEST:
            raise ValueError(
                f'{results["source"]}: at {self.high} um a pixel, this image of '
                f'{results["pixel_size_um"]} um a pixel would have {new[0]}x{new[1]}: check the '
                'pixel size'
            )
        scale = new / shape
        results['matrix'] = affine(np.diag(scale), (scale - 1) / 2) @ results['matrix']
        results['img_shape'] = (int(new[1]), int(new[0]))
        return results


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirror x and y, each with its own probability."""

    def __init__(self, *, horizontal: float = 0.5, vertical: float = 0.5) -> None:
        self.probabilities = np.array([horizontal, vertical])

    def transform(self, results: dict) -> dict:
        """Compose the flips."""
        signs = np.where(results['rng'].random(2) < self.probabilities, -1.0, 1.0)
        results['matrix'] = about_centre(np.diag(signs), results['img_shape']) @ results['matrix']
        return results


@TRANSFORMS.register_module()
class RandomTurn(BaseTransform):
    """Turn by a quarter, a half, three quarters or not at all: no pixel is resampled."""

    def transform(self, results: dict) -> dict:
        """Compose the turn; an odd number of quarters swaps height and width."""
        quarters = int(results['rng'].integers(4))
        cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
        linear = np.array([[cos, -sin], [sin, cos]], float)
        shape = results['img_shape']
        turned = shape[::-1] if quarters % 2 else shape
        centre, new_centre = ((np.array(s[::-1]) - 1) / 2 for s in (shape, turned))
        results['matrix'] = affine(linear, new_centre - linear @ centre) @ results['matrix']
        results['img_shape'] = turned
        return results


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Magnify about the centre by a factor between `low` and `high`; the frame stays as it is.

    With a `probability` below 1 the other images keep their pixels as the camera gave them, noise
    and all: resampling smooths it.
    """

    def __init__(self, *, low: float = 0.9, high: float = 1.1, probability: float = 1.0) -> None:
        self.low, self.high, self.probability = low, high, probability

    def transform(self, results: dict) -> dict:
        """Compose the magnification."""
        factor = results['rng'].uniform(self.low, self.high)
        if results['rng'].random() >= self.probability:
            return results
        matrix = about_centre(np.eye(2) * factor, results['img_shape'])
        results['matrix'] = matrix @ results['matrix']
        return results


@TRANSFORMS.register_module()
class RandomRotate(BaseTransform):
    """Rotate about the centre by up to `degrees` either way; the frame stays as it is."""

    def __init__(self, *, degrees: float) -> None:
        self.degrees = degrees

    def transform(self, results: dict) -> dict:
        """Compose the rotation."""
        angle = np.deg2rad(results['rng'].uniform(-self.degrees, self.degrees))
        linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        results['matrix'] = about_centre(linear, results['img_shape']) @ results['matrix']
        return results


@TRANSFORMS.register_module()
class Warp(BaseTransform):
    """Render the composed matrix: one resampling of `image` (and `clean`), one move of `tips`.

    Dead lines are filled in before. Beyond the border the last pixels go on. Tips that have left
    the frame are dropped, with their `tip_fields`: the network is not asked for what it cannot see.
    Directions turn with the image. An image that does not move and has no dead lines keeps its
    dtype; another becomes float32.
    """

    def transform(self, results: dict) -> dict:
        """Move image and tips."""
        matrix, (height, width) = results['matrix'], results['img_shape']
        results['image'] = fill_dead_lines(results['image'])
        if (matrix != np.eye(3)).any() or (height, width) != results['image'].shape:
            for key in results.keys() & {'image', 'clean'}:
                results[key] = warp(results[key], matrix, (height, width))
        tips = apply_affine(matrix, results['tips'])
        seen = ((tips >= -0.5) & (tips <= (width - 0.5, height - 0.5))).all(axis=1)
        results['tips'] = tips[seen]
        results['tip_fields'] = {
            key: np.asarray(values)[seen] for key, values in results['tip_fields'].items()
        }
        if 'direction' in results['tip_fields']:
            turned = results['tip_fields']['direction'] @ matrix[:2, :2].T
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            results['tip_fields']['direction'] = turned / length
        return results
