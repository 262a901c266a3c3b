"""Large kernels: a cell of a coarse map sees a good part of a shaft in one step."""

from torch import Tensor, nn

_WIDER = 2  # times as many channels between the 1x1 convolutions


class LargeKernelBlock(nn.Module):
    """A depthwise convolution with a large kernel, then two of 1x1, added to what came in.

    A tip is known by the shaft behind it, 100 px and more of faint shadow. Stacks of small kernels
    reach as far on paper, but see mostly what is near (Luo et al. 2016, arXiv 1701.04128); one
    large kernel sees all of it alike (RepLKNet, Ding et al. 2022, arXiv 2203.06717).

    Args:
        channels: of the map.
        side: of the depthwise kernel, cells, odd.

    Raises:
        ValueError: the kernel has no middle.
    """

    def __init__(self, *, channels: int, side: int) -> None:
        super().__init__()
        if side % 2 == 0:
            raise ValueError(f'a large kernel must have a middle: make its side of {side} odd')
        wide = _WIDER * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, side, padding=side // 2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        # Add nothing until training has found what; `grow` counts on it.
        nn.init.zeros_(self.body[-1].weight)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return maps + self.body(maps)


def grow(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Complete the weights of a network with fewer of these blocks, so that it answers as before.

    A network that has learned all it can hold goes on learning as a deeper one (Net2Net, Chen et
    al. 2016, arXiv 1511.05641).

    Args:
        model: the deeper network, new: a block that has learned nothing adds nothing.
        state: weights of the other one, to which those of the new blocks are added.

    Returns:
        The names of the new blocks.
    """
    new = []
    for name, block in model.named_modules():
        prefix = f'{name}.' if name else ''
        if isinstance(block, LargeKernelBlock) and not any(k.startswith(prefix) for k in state):
            state.update(block.state_dict(prefix=prefix))
            new.append(name)
    return new
