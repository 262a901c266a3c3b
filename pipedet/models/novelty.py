"""How unlike the images of training an image is, told by its features.

The mean and the spread over the image of every feature are compared with their distribution over
known images, as one Gaussian (Lee et al. 2018, Mahalanobis distance).
"""

import torch
from torch import Tensor, nn

_SHRINK = 0.05  # share of the mean variance added to every direction: few are seen well
_WITHIN = 0.995  # of the images held out are called familiar


class Novelty(nn.Module):
    """Distance of an image's features from those of known images; above 1 it is unlike them.

    Its buffers are saved with the weights; until `fit` all images are familiar.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = 2 * channels
        self.register_buffer('centre', torch.zeros(size))
        self.register_buffer('whitener', torch.zeros(size, size))
        self.register_buffer('limit', torch.ones(()))

    def summary(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 2 C)."""
        features = features.float()
        count = features.shape[-2] * features.shape[-1]
        mean = features.mean(dim=(2, 3), keepdim=True)
        # `std_mean` takes ten times as long over the channels-last features of a CPU.
        away = features - mean
        variance = (away * away).sum(dim=(2, 3)) / (count - 1)
        return torch.cat([mean.flatten(1), variance.sqrt()], dim=1)

    def forward(self, summaries: Tensor) -> Tensor:
        """Return the novelty (B,) of (B, 2 C) summaries."""
        distance = torch.linalg.vector_norm((summaries - self.centre) @ self.whitener, dim=1)
        return distance / self.limit

    def forget(self) -> None:
        """Find all images familiar again."""
        self.whitener.zero_()

    def fit(self, known: Tensor, held_out: Tensor) -> None:
        """Learn from summaries (N, 2 C) of known images; others (M, 2 C) set the limit."""
        self.centre.copy_(known.mean(dim=0))
        covariance = (known - self.centre).T.cov().double()
        typical = covariance.diagonal().mean()
        values, vectors = torch.linalg.eigh(covariance)
        scaled = vectors / (values.clamp(min=0) + _SHRINK * typical).sqrt()
        self.whitener.copy_(scaled)
        self.limit.fill_(1)
        self.limit.copy_(self(held_out).quantile(_WITHIN))


def forget_the_usual(model: nn.Module) -> None:
    """Let every `Novelty` in a model find all images familiar: its features are about to change."""
    for module in model.modules():
        if isinstance(module, Novelty):
            module.forget()
