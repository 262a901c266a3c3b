"""Fine heads: a fixed number of slots, each a place and a presence, matched with the true tips."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipedet.models.encoders import create_backbone
from pipedet.registry import MODELS


class SlotHead(nn.Module):
    """What every slot head shares: scaling, matching and losses (paper eq. 7, alpha * L_h).

    Places are in [0, 1] of the image inside the head and in the loss, input pixels outside. The
    paper's head always answers with four tips; here each slot also learns whether its tip exists,
    and an absent tip has no coordinates to learn.

    Args:
        num_tips: S, the number of slots.
        matcher: config of a matcher.
        loss: config of a loss on matched places.
        alpha: weight of both losses of this head.
    """

    def __init__(self, *, num_tips: int, matcher: dict, loss: dict, alpha: float) -> None:
        super().__init__()
        self.num_tips, self.alpha = num_tips, alpha
        self.matcher, self.loss_function = MODELS.build(matcher), MODELS.build(loss)

    @abstractmethod
    def slots(self, heatmap: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, S, 3): place logits x, y and presence logit."""

    def forward(self, heatmap: Tensor) -> tuple[Tensor, Tensor]:
        """Return places (B, S, 2) in [0, 1] and presence logits (B, S)."""
        raw = self.slots(heatmap)
        return raw[..., :2].sigmoid(), raw[..., 2]

    def loss(
        self, slots: tuple[Tensor, Tensor], tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Match slots with tips; `size` is the (H, W) of the input."""
        places, presence = slots
        true = pad_sequence([t.points for t in tips], batch_first=True)  # (B, N, 2)
        counts = torch.tensor([len(t) for t in tips], device=true.device)
        valid = torch.arange(true.shape[1], device=true.device) < counts[:, None]
        true = (true + 0.5) / true.new_tensor(size[::-1])
        slot = self.matcher(places, true, valid)  # (B, N)
        matched = slot >= 0
        rows = slot.clamp(min=0)
        predicted = places.gather(1, rows[..., None].expand(-1, -1, 2))
        taken = torch.zeros_like(presence).scatter_add_(1, rows, matched.to(presence))
        return dict(
            loss_hungarian=self.alpha * self.loss_function(predicted, true, matched),
            loss_presence=self.alpha * F.binary_cross_entropy_with_logits(presence, taken),
        )

    def read(self, slots: tuple[Tensor, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return points (B, S, 2) in input pixels and scores (B, S)."""
        places, presence = slots
        return places * places.new_tensor(size[::-1]) - 0.5, presence.sigmoid()


@MODELS.register_module()
class ResNetHead(SlotHead):
    """A ResNet that reads a one-channel heatmap into slots (paper III.B.2).

    Args:
        depth: 18, 34 or 50.
        pretrained: False for random weights, True for timm's own, or the path of a weights file.
        slot_options: those of `SlotHead`.
    """

    def __init__(self, *, depth: int, pretrained: bool | str, **slot_options) -> None:
        super().__init__(**slot_options)
        self.net = create_backbone(
            f'resnet{depth}', pretrained, in_chans=1, num_classes=3 * self.num_tips
        )

    def slots(self, heatmap: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, S, 3)."""
        return self.net(heatmap).unflatten(1, (self.num_tips, 3))
