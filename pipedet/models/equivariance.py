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


def _turned(maps: Tensor, element: int) -> Tensor:
    """Mirror (..., n, n) if the element does, then turn it by quarter turns."""
    mirrored = maps.flip(-1) if element >= 4 else maps
    return mirrored.rot90(element % 4, (-2, -1))


@lru_cache(maxsize=1)
def _products() -> Tensor:
    """Return the element (8, 8) that it is to apply the second of two elements, then the first."""
    probe = torch.arange(4.0).view(2, 2)
    looks = [_turned(probe, element) for element in range(_ORDER)]
    return torch.tensor(
        [
            [
                next(i for i in range(_ORDER) if torch.equal(looks[i], _turned(looks[b], a)))
                for b in range(_ORDER)
            ]
            for a in range(_ORDER)
        ]
    )


@lru_cache(maxsize=8)
def _spatial(side: int) -> Tensor:
    """Return what each element does to the cells of a kernel, (8, side^2, side^2)."""
    cells = torch.eye(side**2).view(side**2, side, side)
    return torch.stack([_turned(cells, g).flatten(1).T for g in range(_ORDER)])


def _vectors() -> Tensor:
    """Return what each element does to a vector (x, y), (8, 2, 2)."""
    mirror, quarter = torch.tensor([[-1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [-1.0, 0]])
    return torch.stack(
        [
            torch.linalg.matrix_power(quarter, g % 4) @ (mirror if g >= 4 else torch.eye(2))
            for g in range(_ORDER)
        ]
    )


# What the elements do to the channels of a map: orthogonal matrices (8, d, d).
SCALAR = torch.ones(_ORDER, 1, 1)
FIELD = torch.eye(_ORDER)[_products()].mT.contiguous()
VECTOR = _vectors()
# Half the difference of a symmetric matrix' diagonal entries, and the entry beside them: a quarter
# turn reverses both, a mirror the second.
STRETCH = torch.stack(
    [torch.diag(torch.tensor([(-1.0) ** g, (-1.0) ** (g + g // 4)])) for g in range(_ORDER)]
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
            depthwise = 1 < layer.groups == layer.in_channels
            if layer.out_channels % _ORDER or not (depthwise or layer.groups == 1):
                raise ValueError(f'{name}: channels must come in fields of eight: {layer}')
            if isinstance(layer, nn.Conv2d):
                _centre(layer)
            image = depthwise or layer.in_channels % _ORDER
            tie_conv(layer, SCALAR if image else FIELD, FIELD)
        elif isinstance(layer, nn.BatchNorm2d):
            _tie_norm(layer)
        elif isinstance(layer, nn.MaxPool2d) and layer.kernel_size % 2 != layer.stride % 2:
            raise ValueError(f'{name}: a pool is to have as even a side as its stride: {layer}')
        elif any(True for _ in layer.parameters(recurse=False)):
            raise ValueError(
                f'{name}: only convolutions and BatchNorm2d can be tied, not {type(layer).__name__}'
            )


@torch.no_grad()
def tie_conv(layer: nn.Conv2d | nn.ConvTranspose2d, before: Tensor, after: Tensor) -> None:
    """Tie a convolution between channels to which the elements do `before` and `after`."""
    shape = layer.weight.shape  # of a transposed one the inputs come first
    actions = (before, after) if isinstance(layer, nn.ConvTranspose2d) else (after, before)
    rows, columns = (action.shape[1] for action in actions)
    reynolds = _mean(*actions, _spatial(shape[-1]))

    def project(weight: Tensor) -> Tensor:
        blocks = weight.reshape(shape[0] // rows, rows, shape[1] // columns, columns, -1)
        blocks = blocks.transpose(1, 2)
        flat = blocks.flatten(2) @ reynolds.to(weight.device)
        return flat.view(blocks.shape).transpose(1, 2).reshape(shape)

    # Of the variance of independent weights their means keep as little as is left free.
    kept = (reynolds.trace() / len(reynolds)).sqrt()
    layer.weight.copy_(project(layer.weight) / kept)
    layer.weight.register_hook(project)
    if layer.bias is not None:
        _tie_vector(layer.bias, after)


@torch.no_grad()
def _centre(layer: nn.Conv2d) -> None:
    """Widen an odd kernel of even stride by one; it reduces as many cells as before."""
    side = layer.kernel_size[0]
    if layer.stride[0] % 2 == 0 and side % 2 and side > 1:
        weight = layer.weight
        layer.kernel_size = (side + 1, side + 1)
        layer.weight = nn.Parameter(weight.new_empty(*weight.shape[:2], side + 1, side + 1))
        layer.weight.normal_(std=float(weight.std()) * side / (side + 1))


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
    reynolds = _mean(after)

    def project(values: Tensor) -> Tensor:
        return (values.view(-1, len(reynolds)) @ reynolds.to(values.device)).view(-1)

    weight.copy_(project(weight))
    weight.register_hook(project)


@lru_cache(maxsize=32)  # tensors are known by their identity: actions are constants
def _mean(*actions: Tensor) -> Tensor:
    """Return the mean over the group of what it does to a product of channels (Reynolds)."""
    return torch.stack([reduce(torch.kron, each) for each in zip(*actions, strict=True)]).mean(0)
