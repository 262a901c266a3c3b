"""Images of any bit depth -> one batch of comparable numbers on the model's device."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pipedet.registry import MODELS

_MULTIPLE = 16  # the stride of encoders and the widest neighbourhood of `LocalContrast`


@MODELS.register_module()
class TipPreprocessor(BaseDataPreprocessor):
    """Move to the device, normalise each image by its own robust percentiles, and stack.

    Images of several sizes are brought to one that encoders can halve four times: their last column
    and row go on to the right and below, where no coordinate changes.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return `inputs` (B, 1, H, W) and the samples as they came."""
        data = self.cast_data(data)
        images = [normalise(image[None]) for image in data['inputs']]
        height, width = (
            max(-(-image.shape[axis] // _MULTIPLE) * _MULTIPLE for image in images)
            for axis in (-2, -1)
        )
        return dict(
            inputs=torch.cat([_extend(image, height, width) for image in images]),
            data_samples=data['data_samples'],
        )


def _extend(image: Tensor, height: int, width: int) -> Tensor:
    below, right = height - image.shape[-2], width - image.shape[-1]
    return F.pad(image, (0, right, 0, below), mode='replicate') if below or right else image


def normalise(images: Tensor) -> Tensor:
    """Map each image's 1st percentile to -1 and its 99th to 1; clip at three times that.

    A flat image becomes zeros. `images` is (B, 1, H, W), any unit.
    """
    # Every third pixel of every third row is plenty for a percentile, and a sort is not free.
    return scale_between(images, *percentiles(images[..., ::3, ::3]))


def percentiles(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 1st and the 99th percentile of each image, (B, 1, 1, 1) both."""
    edges = images.new_tensor([0.01, 0.99])
    low, high = images.flatten(1).quantile(edges, dim=1)[..., None, None, None]
    return low, high


def scale_between(images: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Map `low` to -1 and `high` to 1, and clip at three times that."""
    middle, half = (high + low) / 2, (high - low) / 2
    return ((images - middle) / torch.where(half > 0, half, 1)).clamp(-3, 3)


# Bright cells go beyond the percentiles; what lies at twice their distance is cut off.
_UNIT_SPAN = 2.0


def to_unit(normalised: Tensor) -> Tensor:
    """Map `normalise`d images to the [0, 1] that image-to-image networks work in."""
    return (0.5 + normalised / (2 * _UNIT_SPAN)).clamp(0, 1)


def from_unit(images: Tensor) -> Tensor:
    """Map images in [0, 1] back to what detectors see."""
    return (images - 0.5) * (2 * _UNIT_SPAN)


@MODELS.register_module()
class PairPreprocessor(BaseDataPreprocessor):
    """Stack pairs that are in [0, 1] already (`ToUnit`), and move them to the device."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return `inputs` and `targets`, both (B, 1, H, W), and the samples as they came."""
        data = self.cast_data(data)
        images = {key: torch.stack(list(data[key])) for key in ('inputs', 'targets')}
        return images | dict(data_samples=data['data_samples'])
