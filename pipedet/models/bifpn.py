"""BiFPN (EfficientDet, Tan et al. 2020, section 3), and an encoder that ends at a fine stride.

Features of several strides are merged downwards and upwards again, round after round; each merger
learns how much of each input to take. Transposed convolutions then lead to a stride at which an
object of a few pixels still covers cells of its own (MidasMap goes to 2).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipedet.models.encoders import create_levels, feature_maps
from pipedet.models.equivariance import refuse_trained, tie
from pipedet.registry import MODELS

_EPSILON = 1e-4  # keeps the shares finite where all weights have become 0 (the paper's)


class Merger(nn.Module):
    """Fast normalised fusion (section 3.3) and a depthwise separable convolution.

    Args:
        inputs: how many maps are merged.
        channels: of each of them.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    @property
    def shares(self) -> Tensor:
        """How much of each input is taken, (inputs,): not negative, and together just below 1."""
        weights = self.weights.relu()
        return weights / (weights.sum() + _EPSILON)

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps of one shape (B, C, h, w) -> one of that shape."""
        return self.conv(sum(share * m for share, m in zip(self.shares, maps, strict=True)))


class BiFPN(nn.Module):
    """Rounds of merging from coarse to fine and back; the finest map of the last round remains.

    So the last round has no way back: nothing would read its coarser maps.

    Args:
        in_channels: of each map, finest first and at least two; each map has half the side of the
            one before, rounded up.
        channels: that all are brought to.
        rounds: at least one.
    """

    def __init__(self, *, in_channels: Sequence[int], channels: int, rounds: int) -> None:
        super().__init__()
        levels = len(in_channels)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for c in in_channels
        )
        self.to_fine = nn.ModuleList(
            nn.ModuleList(Merger(2, channels) for _ in range(levels - 1)) for _ in range(rounds)
        )
        # The coarsest level has nothing on its way to the fine: two inputs, the others three.
        self.to_coarse = nn.ModuleList(
            nn.ModuleList(Merger(3, channels) for _ in range(levels - 2))
            + nn.ModuleList([Merger(2, channels)])
            for _ in range(rounds - 1)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), finest first -> (B, channels, h_0, w_0)."""
        maps = [lateral(m) for lateral, m in zip(self.laterals, maps, strict=True)]
        for down, up in zip(self.to_fine, self.to_coarse, strict=False):
            maps = _merge_to_coarse(up, maps, _merge_to_fine(down, maps))
        return _merge_to_fine(self.to_fine[-1], maps)[0]


def _merge_to_fine(mergers: nn.ModuleList, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return what is merged on the way from the coarsest map to the finest, finest first."""
    merged = [maps[-1]]
    for own, merge in zip(reversed(maps[:-1]), mergers, strict=True):
        coarser = F.interpolate(merged[0], size=own.shape[-2:], mode='nearest')
        merged.insert(0, merge(own, coarser))
    return merged


def _merge_to_coarse(
    mergers: nn.ModuleList, maps: Sequence[Tensor], merged: Sequence[Tensor]
) -> list[Tensor]:
    """Return a round's output, from what came in and what was merged on the way to the finest."""
    out = [merged[0]]
    for level, merge in enumerate(mergers, start=1):
        # Of the four cells that become one: nine round one of the four would prefer a side.
        finer = F.max_pool2d(out[-1], 2, ceil_mode=True)
        between = [merged[level]] if level < len(maps) - 1 else []
        out.append(merge(maps[level], *between, finer))
    return out


@MODELS.register_module()
class TimmBiFPN(nn.Module):
    """A convolutional backbone (`net`), a BiFPN (`neck`) and transposed convolutions (`decoder`).

    Args:
        name: a timm model name with `features_only` support.
        levels: which of its feature maps to merge, finest first; consecutive ones.
        channels: of the BiFPN and of what is returned.
        rounds: of the BiFPN.
        out_stride: of what is returned, input pixels; each transposed convolution halves it.
        pretrained: False for random weights, True for timm's own, or the path of a weights file.
        equivariant: see `TimmPyramid`.

    Raises:
        ValueError: no number of halvings leads from the backbone's stride to `out_stride`.
    """

    def __init__(
        self,
        *,
        name: str,
        levels: tuple[int, ...],
        channels: int,
        rounds: int,
        out_stride: int,
        pretrained: bool | str,
        equivariant: bool = False,
    ) -> None:
        super().__init__()
        if equivariant:
            refuse_trained(pretrained)
        self.net = create_levels(name, levels, pretrained, in_chans=1)
        finest = self.net.feature_info.reduction()[0]
        strides = [finest]
        while strides[-1] > out_stride:
            strides.append(strides[-1] // 2)
        if strides[-1] != out_stride:
            raise ValueError(
                f'out_stride {out_stride} is not reached by halving {finest}, the stride of level '
                f'{levels[0]} of {name!r}: choose one of {strides[:-1]}, or other levels'
            )
        self.channels, self.stride = channels, out_stride
        self.neck = BiFPN(
            in_channels=self.net.feature_info.channels(), channels=channels, rounds=rounds
        )
        self.decoder = nn.Sequential(*(_Doubling(channels) for _ in strides[1:]))
        self.equivariant = equivariant
        if equivariant:
            # Shares are numbers, which look the same from all sides.
            mergers = [m.conv for m in self.neck.modules() if isinstance(m, Merger)]
            for part in (self.net, self.neck.laterals, *mergers, self.decoder):
                tie(part)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, channels, H / stride, W / stride)."""
        return self.decoder(self.neck(feature_maps(self.net, images)))


class _Doubling(nn.Sequential):
    """Twice the resolution: cell i becomes the cells 2i and 2i + 1, whose middle it is."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.SiLU(),
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
        )
