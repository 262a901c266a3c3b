"""Enhancement inside a localiser: of the whole image, or of crops round where tips may be."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipedet.models.preprocessor import from_unit, to_unit
from pipedet.models.tiling import tiled
from pipedet.registry import MODELS

CROPS = ('none', 'proposed', 'oracle')
SIZE = 80  # side of a crop, input pixels (paper III.A)


@MODELS.register_module()
class Enhancement(nn.Module):
    """A generator, and where it is applied.

    Args:
        generator: config of a network (B, 1, H, W) -> (B, 1, H, W), both in [0, 1].
        crop: 'none': the whole image. 'proposed': crops at the peaks of the localiser's own heatmap
            of the raw image. 'oracle': crops at the *labelled* tips, as in the paper (III.A), at
            test time too; for reproduction only, since no rig knows them.
    """

    proposals = 4  # most crops in an image: the pipettes of a rig

    def __init__(self, *, generator: dict, crop: str) -> None:
        super().__init__()
        if crop not in CROPS:
            raise ValueError(f'crop is one of {", ".join(CROPS)}, not {crop!r}')
        self.generator = MODELS.build(generator)
        self.crop = crop

    def forward(self, images: Tensor) -> Tensor:
        """Enhance whole (B, 1, H, W), normalised as detectors see them."""
        return from_unit(tiled(self.generator, to_unit(images)).clamp(0, 1))

    def at(self, images: Tensor, centres: Sequence[Tensor]) -> Tensor:
        """Enhance crops and put them back where they came from; the rest stays raw.

        Args:
            images: (B, 1, H, W), normalised.
            centres: (N_i, 2) pixels of each image. Beyond the border a crop is padded with the last
                pixels; where crops overlap the result is their mean.
        """
        which = torch.cat([torch.full((len(c),), i) for i, c in enumerate(centres)])
        if len(which) == 0:
            return images
        which = which.to(images.device)
        corners = torch.cat([*centres]).round().long() - SIZE // 2  # (M, 2): left, top
        steps = torch.arange(SIZE, device=images.device)
        xs, ys = (corners[:, axis, None] + steps for axis in (0, 1))  # (M, SIZE)
        height, width = images.shape[-2:]
        inside = ((ys >= 0) & (ys < height))[:, :, None] & ((xs >= 0) & (xs < width))[:, None]
        ys, xs = ys.clamp(0, height - 1)[:, :, None], xs.clamp(0, width - 1)[:, None]
        place = (which[:, None, None], ys, xs)
        enhanced = self(images[:, 0][place][:, None])[:, 0]  # (M, SIZE, SIZE)
        total, count = (torch.zeros_like(images[:, 0]) for _ in range(2))
        total.index_put_(place, enhanced * inside, accumulate=True)
        count.index_put_(place, inside.to(total), accumulate=True)
        return torch.where(count > 0, total / count.clamp(min=1), images[:, 0])[:, None]
