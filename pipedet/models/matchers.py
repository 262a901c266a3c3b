"""Match predicted slots with true tips, so that no loss depends on their order (paper eq. 6)."""

from abc import abstractmethod
from functools import cache
from itertools import permutations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pipedet.registry import MODELS

# 6! = 720 orders in one gather for the whole batch; 7! would be slower than scipy image by image.
ENUMERATE_UP_TO = 6


@MODELS.register_module()
class DistanceCost:
    """The Euclidean distance (paper eq. 6).

    Args:
        presence: the distance that a slot's presence is worth, in sides of the image (as the class
            cost of DETR); 0 for none.
    """

    def __init__(self, *, presence: float) -> None:
        self.presence = presence

    def __call__(self, predicted: Tensor, presence: Tensor, true: Tensor) -> Tensor:
        """(B, S, 2), (B, S) logits, (B, N, 2) -> (B, S, N)."""
        distance = (predicted[:, :, None] - true[:, None]).float().norm(dim=-1)
        return distance - self.presence * presence.float().sigmoid()[..., None]


class Matcher:
    """A one-to-one assignment.

    Args:
        cost: config of the cost of a pair.
    """

    def __init__(self, *, cost: dict) -> None:
        self.cost = MODELS.build(cost)

    @torch.no_grad()
    def __call__(self, predicted: Tensor, presence: Tensor, true: Tensor, valid: Tensor) -> Tensor:
        """Match.

        Args:
            predicted: (B, S, 2) slots.
            presence: (B, S) logits.
            true: (B, N, 2) tips, padded.
            valid: (B, N) bool, False for padding.

        Returns:
            (B, N) slot of each tip, -1 for padding and for tips beyond the number of slots. No slot
            is given twice.
        """
        cost = self.cost(predicted, presence, true)
        if not cost.isfinite().all():
            raise FloatingPointError('cannot match: a predicted or true tip is not finite')
        return self.assign(cost, valid)

    @abstractmethod
    def assign(self, cost: Tensor, valid: Tensor) -> Tensor:
        """(B, S, N) and (B, N) -> (B, N)."""


@MODELS.register_module()
class HungarianMatcher(Matcher):
    """The assignment of least total cost, exact, vectorised over the batch."""

    def assign(self, cost: Tensor, valid: Tensor) -> Tensor:
        """(B, S, N) and (B, N) -> (B, N)."""
        # Among assignments of one size a shift changes nothing, and padding is to cost the least.
        cost = cost - cost.amin() if cost.numel() else cost
        if max(cost.shape[1:]) <= ENUMERATE_UP_TO:
            return _by_enumeration(cost, valid)
        return _by_scipy(cost, valid)


@MODELS.register_module()
class GreedyMatcher(Matcher):
    """The cheapest pair first, then the cheapest of what is left."""

    def assign(self, cost: Tensor, valid: Tensor) -> Tensor:
        """(B, S, N) and (B, N) -> (B, N)."""
        batch, slots, tips = cost.shape
        left = torch.where(valid[:, None], cost, torch.inf)
        result = torch.full_like(valid, -1, dtype=torch.long)
        rows = torch.arange(batch, device=cost.device)
        for _ in range(min(slots, tips)):
            least, pair = left.flatten(1).min(dim=1)
            slot, tip = pair // tips, pair % tips
            found = least.isfinite()
            result[rows[found], tip[found]] = slot[found]
            left[rows, slot] = torch.inf
            left[rows, :, tip] = torch.inf
        return result


def _by_enumeration(cost: Tensor, valid: Tensor) -> Tensor:
    batch, slots, tips = cost.shape
    side = max(slots, tips)
    # Padding to a square: a slot that stays free costs nothing, a tip without a slot more than any
    # assignment, so that only tips beyond the number of slots are left out.
    square = cost.new_zeros(batch, side, side)
    square[:, slots:, :tips] = side * cost.amax() if cost.numel() else 0
    square[:, :, :tips] = torch.where(valid[:, None], square[:, :, :tips], 0)
    square[:, :slots, :tips] = torch.where(valid[:, None], cost, 0)
    orders = _orders(side).to(cost.device)  # (side!, side): slot of each tip
    totals = square[:, orders, torch.arange(side, device=cost.device)].sum(dim=-1)
    best = orders[totals.argmin(dim=1)][:, :tips]  # (B, N)
    return torch.where(valid & (best < slots), best, -1)


def _by_scipy(cost: Tensor, valid: Tensor) -> Tensor:
    result = torch.full(valid.shape, -1, dtype=torch.long)
    for row, matrix, mask in zip(result, cost.cpu().numpy(), valid.cpu(), strict=True):
        places = mask.nonzero()[:, 0]
        slot, tip = linear_sum_assignment(matrix[:, places.numpy()])
        row[places[tip]] = torch.from_numpy(slot)
    return result.to(cost.device)


@cache
def _orders(n: int) -> Tensor:
    return torch.tensor(list(permutations(range(n))), dtype=torch.long).reshape(-1, n)
