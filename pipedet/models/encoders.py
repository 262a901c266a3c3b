"""Encoders: any timm backbone, as one feature map that knows its channels and its stride."""

from itertools import pairwise

import timm
import torch.nn.functional as F
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from pipedet.models import narrow  # noqa: F401, timm is told of its models
from pipedet.models.contrast import LocalContrast
from pipedet.models.equivariance import refuse_trained, tie
from pipedet.models.large_kernels import LargeKernelBlock
from pipedet.registry import MODELS


@MODELS.register_module()
class TimmTransformer(nn.Module):
    """A plain vision transformer: patch tokens, put back on their grid (paper III.B.1).

    Args:
        name: a timm model name.
        image_size: side of the input, pixels; position embeddings are made for it.
        pretrained: False for random weights, True for timm's own, or the path of a weights file.
    """

    def __init__(self, *, name: str, image_size: int, pretrained: bool | str) -> None:
        super().__init__()
        self.net = create_backbone(
            name, pretrained, in_chans=1, img_size=image_size, num_classes=0, global_pool=''
        )
        self.channels: int = self.net.num_features
        self.stride: int = self.net.patch_embed.patch_size[0]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, channels, H / stride, W / stride)."""
        tokens = self.net.forward_features(images)[:, self.net.num_prefix_tokens :]
        rows, columns = (side // self.stride for side in images.shape[-2:])
        return tokens.transpose(1, 2).unflatten(2, (rows, columns))


@MODELS.register_module()
class TimmPyramid(nn.Module):
    """A convolutional backbone with a feature pyramid (Lin et al. 2017), its finest level returned.

    Args:
        name: a timm model name with `features_only` support.
        levels: which of its feature maps to merge, finest first.
        channels: of the merged map.
        pretrained: False for random weights, True for timm's own, or the path of a weights file.
        contrast_radii: of the neighbourhoods whose `LocalContrast` joins the image, pixels.
        patch_stem: whether the backbone, a MobileNet or cs3darknet, goes to stride 4 at once.
        image_size: side of the input for a backbone that must know it (Swin); None otherwise.
        large_kernels: of each level, the sides of the `LargeKernelBlock` that end its stage.
        equivariant: whether turns and mirrors of an image are one to it (`equivariance`): the
            backbone must be of convolutions and BatchNorm2d alone, and begin with random weights.
    """

    def __init__(
        self,
        *,
        name: str,
        levels: tuple[int, ...],
        channels: int,
        pretrained: bool | str,
        contrast_radii: tuple[int, ...] = (),
        patch_stem: bool = False,
        image_size: int | None = None,
        large_kernels: tuple[tuple[int, ...], ...] = (),
        equivariant: bool = False,
    ) -> None:
        super().__init__()
        if equivariant:
            refuse_trained(pretrained)
        self.contrast = LocalContrast(contrast_radii)
        size = {} if image_size is None else dict(img_size=image_size)
        self.net = create_levels(name, levels, pretrained, in_chans=self.contrast.channels, **size)
        if patch_stem:
            _begin_with_patches(self.net, self.contrast.channels)
        if large_kernels:
            _see_far(self.net, large_kernels)
        self.channels = channels
        strides = self.net.feature_info.reduction()
        self.stride: int = strides[0]
        self.coarsest: int = strides[-1]
        self.factors = [coarse // fine for fine, coarse in pairwise(strides)][::-1]
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for c in self.net.feature_info.channels()
        )
        self.merges = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for _ in levels[1:]
        )
        self.equivariant = equivariant
        if equivariant:
            tie(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, channels, H / stride, W / stride)."""
        height, width = images.shape[-2:]
        levels = feature_maps(self.net, self._fill(self.contrast(images)))
        features = [side(f) for side, f in zip(self.laterals, levels, strict=True)]
        merged = features[-1]
        for finer, merge, factor in zip(
            reversed(features[:-1]), self.merges, self.factors, strict=True
        ):
            merged = F.interpolate(merged.relu(), scale_factor=factor, mode='bilinear')
            merged = merge(finer + merged)
        return merged[..., : height // self.stride, : width // self.stride]

    def _fill(self, maps: Tensor) -> Tensor:
        """Let the last row and column go on until the coarsest level has whole cells alone.

        Of half a cell one backbone makes none and another one, and levels would not fit.
        """
        below, right = (-side % self.coarsest for side in maps.shape[-2:])
        return F.pad(maps, (0, right, 0, below), mode='replicate') if below or right else maps


def create_levels(
    name: str, levels: tuple[int, ...], pretrained: bool | str, **options
) -> nn.Module:
    """Create a timm backbone that returns some of its feature maps, and ends with the last of them.

    Args:
        name: a timm model name with `features_only` support.
        levels: which feature maps, finest first.
        pretrained: see `create_backbone`.
        options: see `create_backbone`.
    """
    net = create_backbone(
        name, pretrained, features_only=True, out_indices=tuple(levels), **options
    )
    _drop_unused_stages(net)
    return net


def feature_maps(net: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the maps (B, C_i, h_i, w_i) of a backbone of `create_levels`, finest first."""
    levels = net(images)
    if getattr(net, 'output_fmt', 'NCHW') == 'NHWC':
        levels = [level.permute(0, 3, 1, 2) for level in levels]
    return levels


def _drop_unused_stages(net: nn.Module) -> None:
    """Take out the stages behind the last feature asked for.

    timm's EfficientNet family (MobileNets among them) would compute them and throw the result away:
    here two stages of five, three quarters of the weights.
    """
    if isinstance(net, EfficientNetFeatures | MobileNetV3Features):
        last = max(info['stage'] for info in net.feature_info.get_dicts())
        net.blocks = net.blocks[:last]  # stage 0 is the stem


def _begin_with_patches(net: nn.Module, in_channels: int) -> None:
    """Go to a quarter of the resolution at once, by overlapping patches of 8x8 pixels.

    At full and half resolution are few channels and most of the pixels: a quarter of a training
    step on a CPU went there, and the network learns no worse without.
    """
    quarter = next((level for level in net.feature_info.info if level['reduction'] == 4), {})
    begins = (type(net), quarter.get('module'), net.feature_info.reduction()[0] >= 4)
    if begins == (MobileNetV3Features, 'blocks.0', True):
        stem, channels = net.conv_stem.out_channels, quarter['num_chs']
        net.conv_stem = _patches(in_channels, stem)
        net.blocks[0] = nn.Sequential(
            nn.Conv2d(stem, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
    elif begins == (FeatureListNet, 'stages.0', True) and _is_cs3darknet(net):
        halves = net['stages_0'].conv_down  # to a quarter; its norm and activation stay
        net['stem_conv1'] = nn.Sequential(_patches(in_channels, halves.bn.num_features), halves.bn)
        net['stem_conv2'] = net['stages_0'].conv_down = nn.Identity()
    else:
        raise ValueError(
            'patch_stem is for MobileNets (V3, V4) whose first stage goes to a quarter of the '
            'resolution, for cs3darknets, and for levels from there on'
        )


def _is_cs3darknet(net: nn.Module) -> bool:
    """Return whether two convolutions and a stage that begins with one go to a quarter."""
    begins = {'stem_conv1', 'stem_conv2', 'stages_0'} == set(list(net)[:3])
    return begins and hasattr(getattr(net['stages_0'], 'conv_down', None), 'bn')


def _patches(in_channels: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 8, stride=4, padding=2, bias=False)


def _see_far(net: nn.Module, kernels: tuple[tuple[int, ...], ...]) -> None:
    """End the stage of each level with blocks of large kernels, of these sides."""
    levels = net.feature_info.get_dicts()
    if len(kernels) != len(levels):
        raise ValueError(f'large_kernels: {len(kernels)} lists of sides for {len(levels)} levels')
    modules = dict(net.named_modules())
    for info, sides in zip(levels, kernels, strict=True):
        if not sides:
            continue
        blocks = [LargeKernelBlock(channels=info['num_chs'], side=side) for side in sides]
        name = info['module']
        flat = name.replace('.', '_')  # as timm's FeatureListNet calls it
        if isinstance(modules.get(name), nn.Sequential):
            modules[name].extend(blocks)
        elif flat in net._modules and getattr(net, 'output_fmt', 'NCHW') == 'NCHW':
            _add_behind(net, flat, blocks)
        else:
            raise ValueError(
                f'large_kernels: no block can be added to {name} of {type(net).__name__}; use a '
                'MobileNet, a ResNet or a CSP network'
            )


def _add_behind(net: FeatureListNet, stage: str, blocks: list[nn.Module]) -> None:
    """Put blocks behind a stage, whose own weights keep their names, and return their maps."""
    end, modules = f'{stage}_far', list(net.items())
    net.clear()
    for name, module in modules:
        net[name] = module
        if name == stage:
            net[end] = nn.Sequential(*blocks)
    net.return_layers = {end if n == stage else n: i for n, i in net.return_layers.items()}


def create_backbone(name: str, pretrained: bool | str, **options) -> nn.Module:
    """Create a timm model, or say what to do where its weights cannot be had.

    Args:
        name: a timm model name.
        pretrained: False for random weights, True for timm's own, or the path of a weights file.
        options: passed on to `timm.create_model`.
    """
    if isinstance(pretrained, str):
        options['pretrained_cfg_overlay'] = dict(file=pretrained)
    try:
        return timm.create_model(name, pretrained=bool(pretrained), **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise RuntimeError(
            f'the ImageNet weights of {name!r} cannot be loaded ({error}). Give a file that you '
            "have (pretrained='path/to/weights.safetensors') or train from random weights "
            '(pretrained=False)'
        ) from error
