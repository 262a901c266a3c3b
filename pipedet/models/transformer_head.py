"""A DETR-like decoder (Carion et al. 2020): learned queries ask tokens of a picture for tips."""

import torch
from torch import Tensor, nn

from pipedet.models.slot_head import RegressionHead
from pipedet.registry import MODELS


@MODELS.register_module()
class TransformerHead(RegressionHead):
    """Tokens of an encoder, and one query for each slot.

    On the heatmap with `Patches` it is the decoder that the paper tried (V.A); on the image with a
    vision transformer it needs no heatmap.

    Args:
        encoder: config of an encoder of one channel.
        width: of tokens and queries.
        layers: of the decoder.
        heads: of each attention.
        slot_options: those of `SlotHead`.
    """

    def __init__(
        self, *, encoder: dict, width: int, layers: int, heads: int, **slot_options
    ) -> None:
        super().__init__(**slot_options)
        self.encoder = MODELS.build(encoder)
        self.project = nn.Conv2d(self.encoder.channels, width, 1)
        layer = nn.TransformerDecoderLayer(
            width, heads, dim_feedforward=4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(width))
        self.queries = nn.Parameter(torch.randn(self.num_tips, width))
        self.answer = nn.Linear(width, 3)

    def slots(self, picture: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, S, 3)."""
        features = self.project(self.encoder(picture))
        features = features + sine_positions(*features.shape[1:]).to(features)
        tokens = features.flatten(2).transpose(1, 2)  # (B, h * w, width)
        return self.answer(self.decoder(self.queries.expand(len(tokens), -1, -1), tokens))


@MODELS.register_module()
class Patches(nn.Module):
    """Non-overlapping patches as tokens.

    Args:
        size: side of a patch, pixels.
        channels: of a token.
    """

    def __init__(self, *, size: int, channels: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, size
        self.embed = nn.Conv2d(1, channels, size, stride=size)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, channels, H / size, W / size)."""
        return self.embed(picture)


def sine_positions(channels: int, height: int, width: int) -> Tensor:
    """Return (channels, height, width) sines and cosines of y and x, of wavelengths up to 10000."""
    wave = 10000.0 ** -(torch.arange(channels // 4) / (channels // 4))
    y = torch.arange(height)[None, :, None] * wave[:, None, None]
    x = torch.arange(width)[None, None, :] * wave[:, None, None]
    parts = [part.expand(-1, height, width) for part in (y.sin(), y.cos(), x.sin(), x.cos())]
    return torch.cat(parts)
