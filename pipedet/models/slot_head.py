"""Fine heads: a fixed number of slots, each a place and a presence, matched with the true tips.

A head reads a picture (B, 1, H, W): the heatmap, or the image itself.
"""

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
        loss: config of a loss on the answers of matched slots.
        alpha: weight of both losses of this head.
    """

    def __init__(self, *, num_tips: int, matcher: dict, loss: dict, alpha: float) -> None:
        super().__init__()
        self.num_tips, self.alpha = num_tips, alpha
        self.matcher, self.loss_function = MODELS.build(matcher), MODELS.build(loss)

    @abstractmethod
    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each slot answers, (B, S, ...), and presence logits (B, S)."""

    @abstractmethod
    def places(self, answers: Tensor) -> Tensor:
        """(B, S, ...) -> (B, S, 2) in [0, 1]: where the answers lie."""

    def loss(
        self, slots: tuple[Tensor, Tensor], tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Match slots with tips; `size` is the (H, W) of the input."""
        answers, presence = slots
        true = pad_sequence([t.points for t in tips], batch_first=True)  # (B, N, 2)
        counts = torch.tensor([len(t) for t in tips], device=true.device)
        valid = torch.arange(true.shape[1], device=true.device) < counts[:, None]
        true = (true + 0.5) / true.new_tensor(size[::-1])
        slot = self.matcher(self.places(answers), presence, true, valid)  # (B, N)
        taken = torch.zeros_like(presence)
        taken.scatter_add_(1, slot.clamp(min=0), (slot >= 0).to(presence))
        return dict(
            loss_hungarian=self.alpha * self.loss_function(answers, true, slot),
            loss_presence=self.alpha * F.binary_cross_entropy_with_logits(presence, taken),
        )

    def read(self, slots: tuple[Tensor, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return points (B, S, 2) in input pixels and scores (B, S)."""
        answers, presence = slots
        places = self.places(answers)
        return places * places.new_tensor(size[::-1]) - 0.5, presence.sigmoid()


class RegressionHead(SlotHead):
    """What the heads share whose slots answer with a place itself."""

    @abstractmethod
    def slots(self, picture: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, S, 3): place logits x, y and presence logit."""

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return places (B, S, 2) in [0, 1] and presence logits (B, S)."""
        raw = self.slots(picture)
        return raw[..., :2].sigmoid(), raw[..., 2]

    def places(self, answers: Tensor) -> Tensor:
        """Return them."""
        return answers


@MODELS.register_module()
class BackboneHead(RegressionHead):
    """A timm classifier whose classes are the slots' numbers.

    A ResNet-18 on the heatmap is the paper's decoder (III.B.2); VGG16, ResNets and a ViT on the
    image are the baselines of its Table II.

    Args:
        name: a timm model name.
        pretrained: False for random weights, True for timm's own, or the path of a weights file.
        image_size: side of the pictures for a transformer, which must know it; None otherwise.
        slot_options: those of `SlotHead`.
    """

    def __init__(
        self,
        *,
        name: str,
        pretrained: bool | str,
        image_size: int | None = None,
        **slot_options,
    ) -> None:
        super().__init__(**slot_options)
        size = {} if image_size is None else dict(img_size=image_size)
        self.net = create_backbone(
            name, pretrained, in_chans=1, num_classes=3 * self.num_tips, **size
        )

    def slots(self, picture: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, S, 3)."""
        return self.net(picture).unflatten(1, (self.num_tips, 3))


@MODELS.register_module()
class CNNHead(RegressionHead):
    """Three convolutions and a linear layer: the paper's smallest alternative (V.A).

    Args:
        width: channels of the first convolution; each of the others has twice as many.
        slot_options: those of `SlotHead`.
    """

    GRID = 8  # cells along a side that the linear layer tells apart

    def __init__(self, *, width: int, **slot_options) -> None:
        super().__init__(**slot_options)
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=4, padding=2), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(self.GRID), nn.Flatten(),
            nn.Linear(4 * width * self.GRID**2, 3 * self.num_tips),
        )  # fmt: skip

    def slots(self, picture: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, S, 3)."""
        return self.net(picture).unflatten(1, (self.num_tips, 3))
