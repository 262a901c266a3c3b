from copy import deepcopy

import pytest
import torch

from pipedet.engine.optim import Muon, orthogonalise


@pytest.mark.parametrize('shape', [(12, 40), (40, 12), (16, 16), (3, 12, 40)])
def test_orthogonalise_brings_all_singular_values_near_one(shape):
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.3 and values.max() < 1.4
    assert torch.allclose(orthogonalise(1000 * matrix), orthogonalise(matrix), atol=1e-3)
    assert torch.allclose(orthogonalise(matrix.mT), orthogonalise(matrix).mT, atol=1e-4)


def test_vectors_and_depthwise_weights_follow_adamw():
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((7,), (16, 1, 3, 3))]
    ours = [torch.nn.Parameter(w.detach().clone()) for w in weights]
    reference = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0)
    muon = Muon(ours, lr=0.1, adamw_scale=0.1)
    for _ in range(3):
        for mine, theirs in zip(ours, weights, strict=True):
            mine.grad = theirs.grad = torch.randn(mine.shape)
        reference.step()
        muon.step()
    for mine, theirs in zip(ours, weights, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_a_small_regression_is_learnt_and_state_resumes():
    torch.manual_seed(0)
    x, truth = torch.randn(256, 24), torch.randn(24, 24)

    def train(layer, optimiser, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            loss = (layer(x) - x @ truth.T).square().mean()
            loss.backward()
            optimiser.step()
        return loss.item()

    layer = torch.nn.Linear(24, 24)
    optimiser = Muon(layer.parameters(), lr=0.05)
    start = train(layer, optimiser, 20)
    twin = torch.nn.Linear(24, 24)
    twin.load_state_dict(layer.state_dict())
    resumed = Muon(twin.parameters(), lr=0.05)
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))
    end = train(layer, optimiser, 60)
    assert end < 0.5 * start
    assert train(twin, resumed, 60) == pytest.approx(end, rel=1e-5)
