"""The end of a pipeline: intensities varied, then image and truth packed for the detector."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData

from pipedet.registry import TRANSFORMS
from pipedet.structures import META_KEYS, TipDataSample

PERCENTILES = (0.5, 99.5)


@TRANSFORMS.register_module()
class Photometric(BaseTransform):
    """Vary intensities in units of the image's own range, its 0.5 to 99.5 percentile.

    With u the intensity on that range, u -> contrast * (u^gamma - 1/2) + 1/2 + brightness + noise.
    So the same numbers serve 8-bit, 12-bit and float images.

    Args:
        brightness: largest shift either way.
        contrast: largest relative change of contrast either way.
        gamma: largest |log gamma|.
        noise: largest standard deviation of white Gaussian noise.
    """

    def __init__(self, *, brightness: float, contrast: float, gamma: float, noise: float) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.gamma = gamma
        self.noise = noise

    def transform(self, results: dict) -> dict:
        """Change the image, to float32; a flat one has no range and keeps its values."""
        rng = results['rng']
        brightness = rng.uniform(-self.brightness, self.brightness)
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        gamma = float(np.exp(rng.uniform(-self.gamma, self.gamma)))
        sigma = rng.uniform(0, self.noise)
        image = results['image'].astype(np.float32)
        noise = sigma * rng.standard_normal(image.shape, dtype=np.float32)
        # Every third pixel of every third row is plenty. Python's floats keep the rest in float32.
        low, high = np.percentile(image[::3, ::3], PERCENTILES).tolist()
        if high > low:
            unit = (image - low) / (high - low)
            unit = np.copysign(np.abs(unit) ** gamma, unit)  # half a per cent lies below 0
            unit = contrast * (unit - 0.5) + 0.5 + brightness + noise
            image = unit * (high - low) + low
        results['image'] = image
        return results


@TRANSFORMS.register_module()
class PackTips(BaseTransform):
    """Pack `inputs` (1, H, W) float32 and `data_samples`, a `TipDataSample` with its `gt_tips`.

    Integers up to 2^24 become float32 without loss: 16-bit images do.
    """

    def transform(self, results: dict) -> dict:
        """Leave everything else behind."""
        fields = {
            key: torch.from_numpy(np.asarray(values, np.float32).copy())
            for key, values in results['tip_fields'].items()
        }
        points = torch.from_numpy(np.asarray(results['tips'], np.float32).reshape(-1, 2).copy())
        sample = TipDataSample(metainfo={key: results[key] for key in META_KEYS})
        sample.gt_tips = InstanceData(points=points, **fields)
        inputs = torch.from_numpy(results['image'].astype(np.float32))[None]  # (1, H, W)
        return dict(inputs=inputs, data_samples=sample)
