"""What can be had without training: OpenCV's contrast, morphology and denoising.

Images are (B, 1, H, W) in [0, 1], as for the trained generators.
"""

from abc import abstractmethod

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pipedet.registry import MODELS


class _PerImage(nn.Module):
    """Apply a function of one (H, W) float32 image to each of a batch, on the CPU."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the same shape, in [0, 1]."""
        arrays = images.detach().float().cpu().numpy()[:, 0]
        changed = np.stack([self.enhance(array).astype(np.float32) for array in arrays])
        return torch.from_numpy(changed)[:, None].to(images).clamp(0, 1)

    @abstractmethod
    def enhance(self, image: np.ndarray) -> np.ndarray:
        """Return the enhanced (H, W)."""


@MODELS.register_module()
class CLAHE(_PerImage):
    """Contrast-limited adaptive histogram equalisation over 8x8 regions.

    Args:
        clip_limit: most that a histogram bin may exceed the mean one.
    """

    def __init__(self, *, clip_limit: float) -> None:
        super().__init__()
        self.clip_limit = clip_limit

    def enhance(self, image: np.ndarray) -> np.ndarray:
        """Return the equalised image, in 8 bits: among 65536 bins no clip limit would ever act."""
        levels = np.round(image * 255).astype(np.uint8)
        return cv2.createCLAHE(self.clip_limit, (8, 8)).apply(levels) / 255


@MODELS.register_module()
class TopHat(_PerImage):
    """Bright and dark details smaller than `size` pixels, made twice as strong."""

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

    def enhance(self, image: np.ndarray) -> np.ndarray:
        """Return image + white top-hat - black top-hat."""
        bright = cv2.morphologyEx(image, cv2.MORPH_TOPHAT, self.kernel)
        dark = cv2.morphologyEx(image, cv2.MORPH_BLACKHAT, self.kernel)
        return image + bright - dark


@MODELS.register_module()
class NonLocalMeans(_PerImage):
    """Mean over similar patches of the neighbourhood.

    Args:
        strength: filter strength in standard deviations of the image's own noise, which is
            estimated from its Laplacian (Immerkaer 1996).
    """

    def __init__(self, *, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def enhance(self, image: np.ndarray) -> np.ndarray:
        """Return the denoised image, computed in 8 bits as OpenCV does."""
        kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
        noise = np.sqrt(np.pi / 2) / 6 * np.abs(cv2.filter2D(image, -1, kernel)).mean()
        levels = np.round(image * 255).astype(np.uint8)
        return cv2.fastNlMeansDenoising(levels, None, float(self.strength * 255 * noise)) / 255
