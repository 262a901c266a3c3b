"""Networks to which all eight turns and mirrors of an image (the group D4) are one.

A tip is a tip whichever way its pipette comes in. Channels go in fields of eight, one for each
element of the group, and a turned image turns every map and trades the eight places of each field
(Cohen & Welling 2016, arXiv 1602.07576). That holds if the weights are tied to each other in a
certain way, and an update keeps what a gradient keeps: so the weights are made to agree once, their
gradients ever after, and the network stays an ordinary one, in shape, speed and file.

It has an eighth of the free weights and learns from each image what it would from its eight views.
"""

from functools import lru_cache, reduce

import torch
from torch import Tensor, nn

_ORDER = 8
_CPU = 'cpu'  # what is remembered must have values, also where models are built without


def _turned(maps: Tensor, element: int) -> Tensor:
    """Mirror (..., n, n) if the element does, then turn it by quarter turns."""
    mirrored = maps.flip(-1) if element >= 4 else maps
    return mirrored.rot90(element % 4, (-2, -1))


@lru_cache(maxsize=1)
def _products() -> Tensor:
    """Return p (8, 8): element p[a, b] turns an image as b does and then a."""
    probe = torch.arange(4.0, device=_CPU).view(2, 2)
    looks = [_turned(probe, element) for element in range(_ORDER)]
    return torch.tensor(
        [
            [
                next(i for i in range(_ORDER) if torch.equal(looks[i], _turned(looks[b], a)))
                for b in range(_ORDER)
            ]
            for a in range(_ORDER)
        ],
        device=_CPU,
    )


@lru_cache(maxsize=16)  # more than a network has kernel sides: `_free` knows them by identity
def _spatial(side: int) -> Tensor:
    """Return what each element does to the cells of a kernel, (8, side^2, side^2)."""
    cells = torch.eye(side**2, device=_CPU).view(side**2, side, side)
    return torch.stack([_turned(cells, g).flatten(1).T for g in range(_ORDER)])


def _vectors() -> Tensor:
    """Return what each element does to a vector (x, y), (8, 2, 2)."""
    mirror = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], device=_CPU)
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], device=_CPU)
    turns = [torch.linalg.matrix_power(quarter, n) for n in range(4)]
    return torch.stack([*turns, *(turn @ mirror for turn in turns)])


# What the elements do to the channels of a map: orthogonal matrices (8, d, d).
SCALAR = torch.ones(_ORDER, 1, 1, device=_CPU)
FIELD = torch.eye(_ORDER, device=_CPU)[_products()].mT.contiguous()
VECTOR = _vectors()
# Half the difference of a symmetric matrix' diagonal entries, and the entry beside them: a quarter
# turn reverses both, a mirror the second.
STRETCH = torch.stack(
    [
        torch.tensor([[(-1.0) ** g, 0.0], [0.0, (-1.0) ** (g + g // 4)]], device=_CPU)
        for g in range(_ORDER)
    ]
)


def side_by_side(*actions: Tensor) -> Tensor:
    """Return what the elements do to channels of several kinds, one behind the other."""
    return torch.stack([torch.block_diag(*each) for each in zip(*actions, strict=True)])


def refuse_trained(pretrained: bool | str) -> None:
    """Raise ValueError where weights were asked for that tying would spoil."""
    if pretrained:
        raise ValueError('weights of an ordinary network cannot be tied: set pretrained=False')


def tie(net: nn.Module) -> None:
    """Tie a network of convolutions and normalisations, from an image on; fields everywhere else.

    Kernels of even strides get an even side: an odd one would sit on one of the four cells that it
    reduces, and which one a turn would change.

    Raises:
        ValueError: a layer is of another kind, prefers a side, or has channels that do not come in
            fields of eight.
    """
    for name, layer in net.named_modules():
        if type(layer) in (nn.Conv2d, nn.ConvTranspose2d):  # timm's own may pad one side only
            if isinstance(layer, nn.Conv2d):
                _centre(layer)
            _refuse_sided(name, layer)
            depthwise = 1 < layer.groups == layer.in_channels
            if layer.out_channels % _ORDER or not (depthwise or layer.groups == 1):
                raise ValueError(f'{name}: channels must come in fields of eight: {layer}')
            alone = depthwise or layer.in_channels % _ORDER  # one channel for each, or an image's
            tie_conv(layer, SCALAR if alone else FIELD, FIELD)
        elif isinstance(layer, nn.BatchNorm2d):
            _tie_norm(layer)
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            _refuse_sided(name, layer)
        elif any(True for _ in layer.parameters(recurse=False)):
            raise ValueError(
                f'{name}: only convolutions and BatchNorm2d can be tied, not {type(layer).__name__}'
            )


def _refuse_sided(name: str, layer: nn.Module) -> None:
    """Raise ValueError unless the layer looks as far to one side as to the other."""
    sides, steps, padding = (
        {value} if isinstance(value, int) else set(value)
        for value in (layer.kernel_size, layer.stride, layer.padding)
    )
    square = len(sides) == len(steps) == len(padding) == 1
    added = any(getattr(layer, 'output_padding', ()))
    if added or not square or min(sides) % 2 != min(steps) % 2:
        raise ValueError(
            f'{name}: an odd side on an even stride, or the other way round, or one that is not '
            f'square prefers a side: {layer}'
        )


@torch.no_grad()
def tie_conv(layer: nn.Conv2d | nn.ConvTranspose2d, before: Tensor, after: Tensor) -> None:
    """Tie a convolution between channels to which the elements do `before` and `after`."""
    shape = layer.weight.shape  # of a transposed one the inputs come first
    actions = (before, after) if isinstance(layer, nn.ConvTranspose2d) else (after, before)
    rows, columns = (action.shape[1] for action in actions)
    free = _free(*actions, _spatial(shape[-1]))
    # Of the variance of independent weights their means keep as little as is left free.
    kept = (free.shape[1] / len(free)) ** 0.5

    def project(weight: Tensor) -> Tensor:
        nonlocal free
        free = free.to(weight)  # once, to where the weights are
        blocks = weight.reshape(shape[0] // rows, rows, shape[1] // columns, columns, -1)
        blocks = blocks.transpose(1, 2)
        flat = blocks.flatten(2) @ free @ free.T
        return flat.view(blocks.shape).transpose(1, 2).reshape(shape)

    layer.weight.copy_(project(layer.weight) / kept)
    layer.weight.register_hook(project)
    if layer.bias is not None:
        _tie_vector(layer.bias, after)


@torch.no_grad()
def _centre(layer: nn.Conv2d) -> None:
    """Widen an odd kernel of even stride by one; of an even number of cells it makes as many."""
    side = layer.kernel_size[0]
    if layer.stride[0] % 2 == 0 and side % 2 and side > 1:
        weight = layer.weight
        layer.kernel_size = (side + 1, side + 1)
        wider = weight.new_empty(*weight.shape[:2], side + 1, side + 1).normal_()
        layer.weight = nn.Parameter(wider * weight.std() * side / (side + 1))


def _tie_norm(layer: nn.BatchNorm2d) -> None:
    if layer.num_features % _ORDER:
        raise ValueError(f'channels must come in fields of eight: {layer}')
    for weight in (layer.weight, layer.bias):
        _tie_vector(weight, FIELD)

    def agree(module: nn.BatchNorm2d, *_) -> None:
        if module.training:
            for moment in (module.running_mean, module.running_var):
                # Behind autograd's back, which keeps them but makes no use of them in training.
                fields = moment.data.view(-1, _ORDER)
                fields.copy_(fields.mean(dim=1, keepdim=True).expand_as(fields))

    layer.register_forward_hook(agree)


@torch.no_grad()
def _tie_vector(weight: Tensor, after: Tensor) -> None:
    free = _free(after)

    def project(values: Tensor) -> Tensor:
        nonlocal free
        free = free.to(values)
        return (values.view(-1, len(free)) @ free @ free.T).view(-1)

    weight.copy_(project(weight))
    weight.register_hook(project)


@lru_cache(maxsize=32)  # tensors are known by their identity: actions are constants
def _free(*actions: Tensor) -> Tensor:
    """Return an orthonormal basis of what the group leaves as it is, (cells, free cells).

    Of a product of channels and cells. The mean over the group of what it does to them projects on
    it (the Reynolds operator); an eighth of them is free, so that the way through the basis costs a
    quarter of that matrix.
    """
    mean = torch.stack([reduce(torch.kron, each) for each in zip(*actions, strict=True)]).mean(0)
    # All actions trade cells, some with a change of sign: each column is one orbit, its first
    # member stands for it, and a cell that some element turns into its negative has none.
    touched = mean != 0
    first = touched.float().argmax(dim=0) == torch.arange(len(mean), device=_CPU)
    return nn.functional.normalize(mean[:, first & touched.any(dim=0)], dim=0)
