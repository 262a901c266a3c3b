"""From a camera's frame to the numbers that a network sees, in numpy and opencv."""

import cv2
import numpy as np

ALIAS_FREE = 1.5  # bilinear sampling of pixels this far apart still sees nearly all of them


def warp(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample (H, W) once, into float32 of another shape.

    Beyond the border its last pixels go on.

    Args:
        image: of any numeric type.
        matrix: (3, 3), pixels (x, y) of the image -> pixels of the result, centres at integers.
        shape: (H, W) of the result.
    """
    image = _blur_before(image.astype(np.float32), matrix)
    return cv2.warpAffine(image, matrix[:2], shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def normalise(image: np.ndarray) -> np.ndarray:
    """Do to (H, W) float32 what the detectors' preprocessor does to a batch (`preprocessor.py`).

    The 1st percentile becomes -1, the 99th 1, what lies beyond three times that is clipped, and a
    flat image becomes zeros.
    """
    low, high = np.quantile(image[::3, ::3], [0.01, 0.99]).astype(np.float32)
    middle, half = (high + low) / 2, (high - low) / 2
    return np.clip((image - middle) / (half if half > 0 else 1), -3, 3).astype(np.float32)


def extend(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Let the last column and row of (H, W) go on to the right and below, up to a shape."""
    below, right = (new - old for new, old in zip(shape, image.shape, strict=True))
    return np.pad(image, ((0, below), (0, right)), mode='edge') if below or right else image


def _blur_before(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Blur (H, W) by what shrinking would alias, along each axis of the original."""
    inverse = np.linalg.inv(matrix[:2, :2])
    # How many original pixels one output pixel covers in x and in y, rotation included.
    steps = np.linalg.norm(inverse, axis=1)
    sigmas = [0.5 * np.sqrt(s**2 - 1) if s > ALIAS_FREE else 0.0 for s in steps]
    if not any(sigmas):
        return image
    sizes = [2 * int(np.ceil(3 * sigma)) + 1 for sigma in sigmas]
    sigma_x, sigma_y = (max(sigma, 1e-6) for sigma in sigmas)  # 0 would mean: guess from the size
    return cv2.GaussianBlur(image, sizes, sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REPLICATE)
