"""Gradients on several threads: the same as on one, but for BatchNorm."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pipedet.commands.common import build_runner
from pipedet.engine.threads import ThreadedGradients, threaded
from pipedet.models.parts import unwrap

TINY = Path(__file__).parent.parent / 'configs' / '_base_' / 'tiny.py'


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def tiny_runner(folder, **changes):
    config = Config.fromfile(TINY)
    config.work_dir = str(folder)
    config.model.encoder.name = 'mobilenetv4_conv_small_050'
    config.merge_from_dict(changes)
    return build_runner(config)


def batch_of(runner, count):
    dataset = runner.train_loop.dataloader.dataset
    return runner.train_loop.dataloader.collate_fn([dataset[i] for i in range(count)])


@pytest.mark.parametrize('count', [4, 5])
def test_threads_add_up_to_the_gradient_of_one_pass(tmp_path, count):
    runner = tiny_runner(tmp_path)
    model = runner.model.eval()  # BatchNorm as it is: what is left must be the same
    batch = batch_of(runner, count)
    images, samples = batch['inputs'], batch['data_samples']
    for i in range(count):  # each of a loss of its own: images of one size and one weight
        one = dict(inputs=images[i : i + 1], data_samples=samples[i : i + 1])
        losses = model(**model.data_preprocessor(one), mode='loss')
        (sum(losses.values()) / count).backward()
    expected = [w.grad.clone() for w in model.parameters()]
    model.zero_grad()
    gradients = ThreadedGradients(model, count)
    gradients.renew()
    loss, logged = gradients(batch)
    for weight, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-6)
    assert loss == logged['loss']
    assert all(w.grad is None for other in gradients.copies[1:] for w in other.parameters())


def test_all_copies_keep_the_mean_of_the_statistics(tmp_path):
    runner = tiny_runner(tmp_path)
    model = runner.model.train()
    gradients = ThreadedGradients(model, 2)
    gradients.renew()
    before = {name: value.clone() for name, value in model.named_buffers()}
    gradients(batch_of(runner, 4))
    other = dict(gradients.copies[1].named_buffers())
    moved = [name for name, value in model.named_buffers() if not value.equal(before[name])]
    assert any('running_mean' in name for name in moved)
    for name, value in model.named_buffers():
        assert value.equal(other[name])


def test_copies_follow_the_weights_and_fewer_samples_than_threads_do(tmp_path):
    runner = tiny_runner(tmp_path)
    gradients = ThreadedGradients(runner.model.train(), 3)
    gradients.renew()
    gradients(batch_of(runner, 1))
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    wrapper.step()
    for own, other in zip(runner.model.parameters(), gradients.copies[2].parameters(), strict=True):
        assert own.equal(other)


def test_a_threaded_run_repeats_itself_and_trains(tmp_path, two_threads):
    changes = {'train_cfg.per_thread': 1, 'train_dataloader.batch_size': 2}
    weights = []
    for name in ('first', 'second'):
        runner = tiny_runner(tmp_path / name, **changes)
        assert runner.train_loop.gradients.threads == 2
        start = {n: w.clone() for n, w in runner.model.named_parameters()}
        runner.train()
        weights.append(unwrap(runner.model).state_dict())
        assert any(not w.equal(start[n]) for n, w in runner.model.named_parameters())
    for name, value in weights[0].items():
        assert value.equal(weights[1][name]), name


def test_one_thread_or_no_wish_means_one_pass(tmp_path, two_threads):
    model = tiny_runner(tmp_path).model
    assert threaded(model, 8, None) is None
    assert threaded(model, 7, 4) is None
    assert threaded(model, 8, 4).threads == 2
    with pytest.raises(TypeError, match='detectors'):
        threaded(torch.nn.Linear(1, 1), 8, 4)


def test_a_loss_that_is_not_finite_changes_nothing(tmp_path, two_threads):
    runner = tiny_runner(tmp_path, **{'train_cfg.per_thread': 1})
    before = [w.clone() for w in runner.model.parameters()]
    with pytest.raises(FloatingPointError, match='loss became nan'):
        runner.build_optim_wrapper(runner.optim_wrapper).step_after(torch.tensor(float('nan')))
    assert all(a.equal(b) for a, b in zip(before, runner.model.parameters(), strict=True))
