"""How unlike the images of training an image is, told by its features.

The mean and the spread over the image of every feature are compared with their distribution over
known images, a Gaussian for each kind of them (Lee et al. 2018, Mahalanobis distance). One for all
kinds is so wide that a spoiled image lies between them: with slices beside two-photon frames,
saturated ones were familiar.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_SHRINK = 0.05  # share of the mean variance added to every direction: few are seen well
_WITHIN = 0.995  # of the images held out are called familiar


class Novelty(nn.Module):
    """Distance of an image's features from the nearest kind of known images; above 1 it is unlike.

    Its buffers are saved with the weights, and have as many kinds as these when they are loaded;
    until `fit` all images are familiar.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = 2 * channels
        self.register_buffer('centre', torch.zeros(1, size))
        self.register_buffer('whitener', torch.zeros(1, size, size))
        self.register_buffer('limit', torch.ones(1))

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
        return (self._distances(summaries) / self.limit).amin(dim=1)

    def _distances(self, summaries: Tensor) -> Tensor:
        """Return the distance (B, K) of summaries (B, 2 C) from each of K kinds."""
        away = summaries[:, None] - self.centre
        return torch.linalg.vector_norm((away[:, :, None] @ self.whitener)[:, :, 0], dim=2)

    def forget(self) -> None:
        """Find all images familiar again."""
        self.whitener.zero_()

    def fit(self, kinds: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Learn from kinds of known images: summaries (N, 2 C), and others that set the limit."""
        fitted = [_gaussian(known) for known, _ in kinds]
        self.centre, self.whitener = (torch.stack(parts) for parts in zip(*fitted, strict=True))
        apart = [self._distances(held_out)[:, i] for i, (_, held_out) in enumerate(kinds)]
        self.limit = torch.stack([distance.quantile(_WITHIN) for distance in apart])

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        for name, own in list(self.named_buffers()):
            value = state_dict.get(prefix + name)
            if value is None:
                continue
            setattr(self, name, own.new_empty(value.shape[:1] + own.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _gaussian(known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) of summaries (N, D) and what whitens them (D, D)."""
    centre = known.mean(dim=0)
    covariance = (known - centre).T.cov().double()
    typical = covariance.diagonal().mean()
    values, vectors = torch.linalg.eigh(covariance)
    scaled = vectors / (values.clamp(min=0) + _SHRINK * typical).sqrt()
    return centre, scaled.to(known.dtype)
