"""Normalisation folded into the convolution before it: the same function in fewer passes."""

from itertools import pairwise

from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse(model: nn.Module) -> nn.Module:
    """Fold every BatchNorm that follows a convolution into it, in place; return the model.

    For predictions alone: the model must be in eval mode and is not to be trained or saved after.
    Two children of one module, a convolution and a BatchNorm of as many channels right behind it,
    are taken to be computed one after the other, as all networks here and in timm do.
    """
    if model.training:
        raise ValueError('only a model in eval mode can be fused: call eval() first')
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            if conv.out_channels != norm.num_features:
                continue
            setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
            # timm's normalisations carry their activation.
            act = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
            setattr(parent, norm_name, act)
    return model
