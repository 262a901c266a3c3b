"""The paper's networks at a quarter of their channels, as timm models, for want of a GPU.

The ViT has a third of its blocks too. No weights exist for these.
"""

from timm.models import register_model
from timm.models.resnet import resnet18, resnet50
from timm.models.vgg import VGG, cfgs
from timm.models.vision_transformer import vit_tiny_patch16_224
from torch import nn

_CHANNELS = (16, 32, 64, 128)


@register_model
def resnet18_quarter(pretrained: bool = False, **options) -> nn.Module:
    """ResNet-18; its stem keeps 64 channels."""
    _refuse(pretrained)
    return resnet18(channels=_CHANNELS, **options)


@register_model
def resnet50_quarter(pretrained: bool = False, **options) -> nn.Module:
    """ResNet-50; its stem keeps 64 channels."""
    _refuse(pretrained)
    return resnet50(channels=_CHANNELS, **options)


@register_model
def vgg16_quarter(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: str | None = None,
    **options,
) -> nn.Module:
    """VGG16; its last linear layer keeps 4096 inputs."""
    _refuse(pretrained)
    plan = [step if step == 'M' else step // 4 for step in cfgs['vgg16']]
    return VGG(plan, mlp_ratio=0.25, **options)


@register_model
def vit_quarter(pretrained: bool = False, **options) -> nn.Module:
    """ViT-B/16 of 192 channels, as ViT-Ti has, and 4 blocks."""
    _refuse(pretrained)
    return vit_tiny_patch16_224(depth=4, **options)


def _refuse(pretrained: bool) -> None:
    if pretrained:
        raise RuntimeError('none exist at this width')
