import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pipedet.models import matchers
from pipedet.models.matchers import HungarianMatcher


def total(predicted, true, valid, slot):
    cost = (predicted[:, :, None] - true[:, None]).norm(dim=-1)
    rows = [cost[b, slot[b, n], n] for b, n in (slot >= 0).nonzero().tolist()]
    return float(sum(rows))


@pytest.mark.parametrize(('slots', 'tips'), [(4, 4), (4, 2), (4, 6), (6, 6), (8, 3), (9, 9)])
def test_the_assignment_is_optimal_and_one_to_one(slots, tips):
    predicted, true = torch.rand(8, slots, 2), torch.rand(8, tips, 2)
    valid = torch.arange(tips) < torch.randint(0, tips + 1, (8, 1))
    slot = HungarianMatcher()(predicted, true, valid)
    assert not (slot[~valid] >= 0).any()
    for b in range(8):
        count = int(valid[b].sum())
        cost = (predicted[b, :, None] - true[b, None, :count]).norm(dim=-1).numpy()
        best = cost[linear_sum_assignment(cost)].sum()
        got = slot[b][slot[b] >= 0].tolist()
        assert len(got) == len(set(got)) == min(slots, count)
        one = slice(b, b + 1)
        assert total(predicted[one], true[one], valid[one], slot[one]) == pytest.approx(
            best, abs=1e-5
        )


def test_enumeration_and_scipy_agree():
    cost, valid = torch.rand(16, 5, 4), torch.arange(4) < torch.randint(0, 5, (16, 1))
    assert torch.equal(matchers._by_enumeration(cost, valid), matchers._by_scipy(cost, valid))


def test_order_of_slots_and_tips_only_permutes_the_answer():
    predicted, true = torch.rand(5, 4, 2), torch.rand(5, 4, 2)
    valid = torch.ones(5, 4, dtype=torch.bool)
    order = torch.tensor([2, 0, 3, 1])
    slot = HungarianMatcher()(predicted, true, valid)
    assert torch.equal(HungarianMatcher()(predicted, true[:, order], valid), slot[:, order])
    back = order[HungarianMatcher()(predicted[:, order], true, valid)]
    assert torch.equal(back, slot)


def test_empty_and_non_finite():
    empty = HungarianMatcher()(torch.rand(2, 4, 2), torch.empty(2, 0, 2), torch.empty(2, 0).bool())
    assert empty.shape == (2, 0)
    with pytest.raises(FloatingPointError, match='not finite'):
        bad = torch.full((1, 4, 2), np.nan)
        HungarianMatcher()(bad, torch.rand(1, 1, 2), torch.ones(1, 1).bool())
