"""SimCC (Li et al. 2022, arXiv 2107.03332): x and y of a tip as two classifications into bins."""

import torch
from torch import Tensor, nn

from pipedet.models.encoders import create_backbone
from pipedet.models.slot_head import SlotHead
from pipedet.registry import MODELS


@MODELS.register_module()
class SimCCHead(SlotHead):
    """Each slot chooses one of many bins across the picture, and one of as many down it.

    Where a regression must answer between two places that it doubts about, a classification may
    say that it is one of them; with more bins than pixels its answers are finer than a pixel.

    Args:
        name: a timm model name, of a convolutional network.
        pretrained: False for random weights, True for timm's own, or the path of a weights file.
        bins: along each side of the picture.
        slot_options: those of `SlotHead`; its loss must be one on bins.
    """

    GRID = 8  # cells along a side that the classifiers tell apart

    def __init__(self, *, name: str, pretrained: bool | str, bins: int, **slot_options) -> None:
        super().__init__(**slot_options)
        self.net = create_backbone(name, pretrained, in_chans=1, num_classes=0, global_pool='')
        self.to_slots = nn.Sequential(
            nn.Conv2d(self.net.num_features, self.num_tips, 1),
            nn.AdaptiveAvgPool2d(self.GRID),
            nn.Flatten(2),
        )
        self.choose = nn.Linear(self.GRID**2, 2 * bins)  # the same for all slots, as in SimCC
        self.exists = nn.Linear(self.GRID**2, 1)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) -> logits of bins (B, S, 2, bins), x before y, and of presence (B, S)."""
        slots = self.to_slots(self.net(picture))
        return self.choose(slots).unflatten(2, (2, -1)), self.exists(slots)[..., 0]

    def places(self, answers: Tensor) -> Tensor:
        """Return the middle of the likeliest bins, (B, S, 2) in [0, 1]."""
        return (answers.argmax(dim=-1) + 0.5) / answers.shape[-1]


@MODELS.register_module()
class BinLoss(nn.Module):
    """Cross-entropy of the bins of matched tips, the truth smoothed by a Gaussian; of x and y, sum.

    Args:
        sigma: of the Gaussian, bins.
    """

    def __init__(self, *, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, answers: Tensor, true: Tensor, slot: Tensor) -> Tensor:
        """Return the sum over an image's tips, as a mean over the batch.

        Args:
            answers: (B, S, 2, bins) logits.
            true: (B, N, 2) in [0, 1], padded.
            slot: (B, N), which slot each tip was matched with; -1: none, or padding.
        """
        bins = answers.shape[-1]
        image, tip = (slot >= 0).nonzero(as_tuple=True)
        chosen = answers[image, slot[image, tip]]  # (M, 2, bins)
        middle = torch.arange(bins, device=answers.device) + 0.5
        away = (middle - bins * true[image, tip][..., None]) / self.sigma
        target = (-0.5 * away.square()).softmax(dim=-1)
        return -(target * chosen.log_softmax(dim=-1)).sum() / len(answers)
