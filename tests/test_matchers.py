import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from pipedet.models import ChamferLoss, GreedyMatcher, TipDistanceLoss, matchers
from pipedet.models.matchers import DistanceCost, HungarianMatcher


def match(predicted, true, valid, kind=HungarianMatcher, presence=0.0, logits=None):
    logits = torch.zeros(predicted.shape[:2]) if logits is None else logits
    return kind(cost=dict(type=DistanceCost, presence=presence))(predicted, logits, true, valid)


def total(predicted, true, valid, slot):
    cost = (predicted[:, :, None] - true[:, None]).norm(dim=-1)
    rows = [cost[b, slot[b, n], n] for b, n in (slot >= 0).nonzero().tolist()]
    return float(sum(rows))


@pytest.mark.parametrize(('slots', 'tips'), [(4, 4), (4, 2), (4, 6), (6, 6), (8, 3), (9, 9)])
def test_the_assignment_is_optimal_and_one_to_one(slots, tips):
    predicted, true = torch.rand(8, slots, 2), torch.rand(8, tips, 2)
    valid = torch.arange(tips) < torch.randint(0, tips + 1, (8, 1))
    slot = match(predicted, true, valid)
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
    slot = match(predicted, true, valid)
    assert torch.equal(match(predicted, true[:, order], valid), slot[:, order])
    back = order[match(predicted[:, order], true, valid)]
    assert torch.equal(back, slot)


def test_empty_and_non_finite():
    empty = match(torch.rand(2, 4, 2), torch.empty(2, 0, 2), torch.empty(2, 0).bool())
    assert empty.shape == (2, 0)
    with pytest.raises(FloatingPointError, match='not finite'):
        bad = torch.full((1, 4, 2), np.nan)
        match(bad, torch.rand(1, 1, 2), torch.ones(1, 1).bool())


def test_greedy_takes_the_cheapest_pair_first():
    predicted = torch.tensor([[[0.0, 0.0], [0.4, 0.0]]])
    true = torch.tensor([[[0.3, 0.0], [1.0, 0.0]]])
    valid = torch.ones(1, 2).bool()
    assert match(predicted, true, valid, GreedyMatcher).tolist() == [[1, 0]]  # 0.1 + 1.0
    assert match(predicted, true, valid).tolist() == [[0, 1]]  # 0.3 + 0.6
    nobody = torch.zeros(1, 2).bool()
    assert match(predicted, true, nobody, GreedyMatcher).tolist() == [[-1, -1]]


@pytest.mark.parametrize(('slots', 'tips'), [(4, 4), (4, 2), (3, 6)])
def test_greedy_is_one_to_one_and_never_better_than_hungarian(slots, tips):
    predicted, true = torch.rand(8, slots, 2), torch.rand(8, tips, 2)
    valid = torch.arange(tips) < torch.randint(1, tips + 1, (8, 1))
    greedy, best = (match(predicted, true, valid, k) for k in (GreedyMatcher, HungarianMatcher))
    for b in range(8):
        got = greedy[b][greedy[b] >= 0].tolist()
        assert len(got) == len(set(got)) == min(slots, int(valid[b].sum()))
    assert total(predicted, true, valid, greedy) >= total(predicted, true, valid, best) - 1e-5


@pytest.mark.parametrize('kind', [HungarianMatcher, GreedyMatcher])
def test_presence_decides_between_slots_as_near(kind):
    predicted, true = torch.tensor([[[0.4, 0.5], [0.6, 0.5]]]), torch.tensor([[[0.5, 0.5]]])
    logits, valid = torch.tensor([[-3.0, 3.0]]), torch.ones(1, 1).bool()
    assert match(predicted, true, valid, kind, 0.1, logits).tolist() == [[1]]
    assert match(predicted, true, valid, kind, 0.1, -logits).tolist() == [[0]]


@pytest.mark.parametrize('loss', [
    TipDistanceLoss(norm='euclidean'), TipDistanceLoss(norm='l1'), TipDistanceLoss(norm='squared'),
    ChamferLoss(),
], ids=['euclidean', 'l1', 'squared', 'chamfer'])  # fmt: skip
def test_loss_on_places_ignores_the_order_of_tips_and_slots(loss):
    places, true = torch.rand(3, 4, 2, requires_grad=True), torch.rand(3, 3, 2)
    valid = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    slots, tips = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    once = loss(places, true, match(places, true, valid))
    moved = match(places[:, slots], true[:, tips], valid[:, tips])
    assert torch.allclose(once, loss(places[:, slots], true[:, tips], moved), atol=1e-6)
    once.backward()
    assert places.grad.isfinite().all()
    perfect = true[:1].repeat(1, 2, 1)  # each tip twice: chamfer does not mind
    all_three = torch.ones(1, 3).bool()
    assert loss(perfect, true[:1], match(perfect, true[:1], all_three)).item() < 1e-6


def test_norms_are_what_they_are_called():
    places, true = torch.tensor([[[3.0, 4.0]]]), torch.zeros(1, 1, 2)
    slot = torch.zeros(1, 1, dtype=torch.long)
    values = [TipDistanceLoss(norm=n)(places, true, slot) for n in ('euclidean', 'l1', 'squared')]
    assert values == [5, 7, 25]
    with pytest.raises(ValueError, match='euclidean, l1, squared'):
        TipDistanceLoss(norm='l2')
