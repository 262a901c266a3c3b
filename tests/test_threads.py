"""Gradients on several threads: those of one pass, but for BatchNorm."""

import copy
import signal
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pipedet.commands.common import build_runner
from pipedet.engine.budget import plan
from pipedet.engine.stopping import Stopped
from pipedet.engine.threads import ThreadedGradients, ahead, threaded
from pipedet.models.parts import unwrap

TINY = Path(__file__).parent.parent / 'configs' / '_base_' / 'tiny.py'
DEALT = {
    'train_cfg.per_thread': 1,
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.length': 6,
}


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def tiny_runner(folder, resume=False, **changes):
    config = Config.fromfile(TINY)
    config.work_dir = str(folder)
    config.resume = resume
    config.model.encoder.name = 'mobilenetv4_conv_small_050'
    config.custom_hooks = [dict(type='pipedet.WeightAverage', horizon=10)]
    config.train_cfg.stages.insert(0, copy.deepcopy(config.train_cfg.stages[0]))
    config.train_cfg.stages[0].update(name='head', parts=('coarse',))
    for stage in config.train_cfg.stages:
        stage.epochs = 1
    config.merge_from_dict(changes)
    return build_runner(config)


def batch_of(runner, count):
    dataset = runner.train_loop.dataloader.dataset
    return runner.train_loop.dataloader.collate_fn([dataset[i] for i in range(count)])


@pytest.mark.parametrize(('count', 'threads'), [(4, 2), (5, 4), (1, 3)])
def test_threads_add_up_to_the_gradient_of_one_pass(tmp_path, count, threads):
    runner = tiny_runner(tmp_path)
    model = runner.model.eval()  # BatchNorm as it is: what is left must be the same
    batch = batch_of(runner, count)
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    sum(losses.values()).backward()
    expected = [w.grad.clone() for w in model.parameters()]
    model.zero_grad()
    loss, logged = ThreadedGradients(model, threads, per_thread=1)(batch)
    torch.testing.assert_close(loss, sum(losses.values()).detach())
    torch.testing.assert_close(logged['loss_heatmap'], losses['loss_heatmap'].detach())
    for weight, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-5)


def test_no_thread_has_fewer_samples_than_it_may(tmp_path):
    runner = tiny_runner(tmp_path)
    gradients = ThreadedGradients(runner.model.train(), 3, per_thread=2)
    seen = []
    for own in gradients.copies:
        own.coarse.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    gradients(batch_of(runner, 5))
    assert sorted(seen) == [2, 3]


def test_all_copies_keep_the_mean_of_the_statistics(tmp_path):
    runner = tiny_runner(tmp_path)
    model = runner.model.train()
    batch = batch_of(runner, 4)
    name = next(n for n, _ in model.named_buffers() if n.endswith('running_mean'))
    halves = []
    for i in (0, 2):
        part = ThreadedGradients(model, 2, per_thread=1).copies[1]
        half = {key: values[i : i + 2] for key, values in batch.items()}
        part(**part.data_preprocessor(half), mode='loss')
        halves.append(part.get_buffer(name))
    gradients = ThreadedGradients(model, 2, per_thread=1)
    gradients(batch)
    torch.testing.assert_close(model.get_buffer(name), (halves[0] + halves[1]) / 2)
    other = dict(gradients.copies[1].named_buffers())
    assert all(value.equal(other[n]) for n, value in model.named_buffers())


def test_copies_follow_the_weights(tmp_path):
    runner = tiny_runner(tmp_path)
    gradients = ThreadedGradients(runner.model.train(), 3, per_thread=1)
    gradients(batch_of(runner, 3))
    runner.build_optim_wrapper(runner.optim_wrapper).step()
    for own, other in zip(runner.model.parameters(), gradients.copies[2].parameters(), strict=True):
        assert own.equal(other)
        assert other.grad is None


def test_a_dealt_run_stopped_and_resumed_repeats_the_unbroken_one(tmp_path, two_threads):
    runner = tiny_runner(tmp_path / 'unbroken', **DEALT)
    assert runner.train_loop.gradients.threads == 2
    start = {n: w.clone() for n, w in runner.model.named_parameters()}
    runner.train()
    unbroken = unwrap(runner.model).state_dict()
    assert any(not w.equal(start[n]) for n, w in runner.model.named_parameters())

    broken = tiny_runner(tmp_path / 'broken', **DEALT)
    step = broken.train_loop._run_iter

    def step_and_signal(index, batch):
        step(index, batch)
        if broken.train_loop.iter == 4:  # in the middle of the second stage
            signal.raise_signal(signal.SIGTERM)

    broken.train_loop._run_iter = step_and_signal
    with pytest.raises(Stopped):
        broken.train()
    resumed = tiny_runner(tmp_path / 'broken', resume=True, **DEALT)
    resumed.train()
    for name, value in unwrap(resumed.model).state_dict().items():
        assert value.equal(unbroken[name]), name


def test_what_is_frozen_stays_as_it_is(tmp_path, two_threads):
    runner = tiny_runner(tmp_path, **DEALT, **{'train_cfg.stages.1.epochs': 0})
    start = {n: v.clone() for n, v in unwrap(runner.model).encoder.state_dict().items()}
    runner.train()
    for name, value in unwrap(runner.model).encoder.state_dict().items():
        assert value.equal(start[name]), name


def test_probing_for_a_budget_leaves_no_trace(tmp_path, two_threads):
    runner = tiny_runner(tmp_path, **DEALT)
    before = {n: v.clone() for n, v in unwrap(runner.model).state_dict().items()}
    rows = plan(runner.train_loop, 1.0)
    assert all(row['step_s'] > 0 for row in rows)
    assert all(w.grad is None for w in runner.model.parameters())
    for name, value in unwrap(runner.model).state_dict().items():
        assert value.equal(before[name]), name


def test_one_thread_or_no_wish_means_one_pass(tmp_path, two_threads):
    model = tiny_runner(tmp_path).model
    assert threaded(model, 8, None) is None
    assert threaded(model, 7, 4) is None
    assert threaded(model, 8, 4).threads == 2
    torch.set_num_threads(1)
    assert threaded(model, 8, 4) is None


def test_what_cannot_be_dealt_out_is_refused(tmp_path, two_threads):
    runner = tiny_runner(tmp_path)
    model = runner.model
    with pytest.raises(ValueError, match='per_thread=0'):
        threaded(model, 8, 0)
    with pytest.raises(ValueError, match='a Linear steps by itself'):
        threaded(torch.nn.Linear(1, 1), 8, 4)
    wrapper = runner.build_optim_wrapper(dict(runner.optim_wrapper, accumulative_counts=2))
    with pytest.raises(ValueError, match='accumulative_counts'):
        wrapper.step_after(torch.tensor(1.0))
    model.coarse.drop = torch.nn.Dropout(0.1)
    with pytest.raises(ValueError, match=r'coarse\.drop draws at random'):
        threaded(model, 8, 4)


def test_a_loss_that_is_not_finite_changes_nothing(tmp_path):
    runner = tiny_runner(tmp_path)
    before = [w.clone() for w in runner.model.parameters()]
    for weight in runner.model.parameters():
        weight.grad = torch.ones_like(weight)
    with pytest.raises(FloatingPointError, match='loss became nan'):
        runner.build_optim_wrapper(runner.optim_wrapper).step_after(torch.tensor(float('nan')))
    assert all(a.equal(b) for a, b in zip(before, runner.model.parameters(), strict=True))


def test_batches_come_in_order_and_faults_where_they_are():
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            if index == 4:
                raise ValueError('row 4')
            return index

    loader = torch.utils.data.DataLoader(Rows(), batch_size=2, collate_fn=list)
    seen = []
    with pytest.raises(ValueError, match='row 4'):
        for batch in ahead(loader):
            seen.append(batch)
    assert seen == [[0, 1], [2, 3]]
