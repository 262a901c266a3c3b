import errno
import json
import math
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pipedet.commands.common import build_runner
from pipedet.commands.train import _announce
from pipedet.engine import Plateau, SaveCheckpoint, WarmupCosine, budget
from pipedet.engine.budget import describe_plan, parse_duration, plan
from pipedet.engine.checkpoint import (
    RECORD,
    WEIGHTS,
    DamagedFileError,
    checkpoints,
    load_checkpoint,
    load_grown,
    load_newest,
    load_weights,
    save_checkpoint,
    save_weights,
    sweep,
)
from pipedet.engine.loops import iteration_seed
from pipedet.engine.stages import Stage
from pipedet.models.large_kernels import LargeKernelBlock
from pipedet.models.parts import unwrap

TINY = Path(__file__).parent.parent / 'configs' / '_base_' / 'tiny.py'


def tiny_runner(folder, resume=False, **changes):
    config = Config.fromfile(TINY)
    config.work_dir = str(folder)
    config.resume = resume
    config.model.encoder.name = 'mobilenetv4_conv_small_050'
    config.merge_from_dict(changes)
    return build_runner(config)


EVERY_LOSS = {'default_hooks.logger.interval': 1, 'log_processor.window_size': 1}


def logged_losses(folder):
    rows = []
    for log in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        rows += [json.loads(line) for line in log.read_text(encoding='utf-8').splitlines()]
    return {row['step']: row['loss'] for row in rows if 'lr' in row}


WORKERS = {
    'no worker': {},
    'two workers': {'train_dataloader.num_workers': 2},
    'two that stay': {
        'train_dataloader.num_workers': 2,
        'train_dataloader.persistent_workers': True,
    },
}


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    """Losses and final weights of a run of two epochs of four iterations."""
    folder = tmp_path_factory.mktemp('unbroken')
    runner = tiny_runner(folder, **EVERY_LOSS)
    runner.train()
    return logged_losses(folder), unwrap(runner.model).state_dict()


@pytest.mark.parametrize('workers', WORKERS)
@pytest.mark.parametrize(
    ('stop_at', 'number'),
    [(4, signal.SIGTERM), (6, signal.SIGINT)],
    ids=['end of epoch', 'middle of epoch'],
)
def test_stop_and_resume_repeats_the_unbroken_run(tmp_path, unbroken, workers, stop_at, number):
    options = EVERY_LOSS | WORKERS[workers]
    broken = tiny_runner(tmp_path, **options)
    step = broken.train_loop._run_iter

    def step_and_signal(index, batch):
        step(index, batch)
        if broken.train_loop.iter == stop_at:
            signal.raise_signal(number)

    broken.train_loop._run_iter = step_and_signal
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        broken.train()
    assert stopped.value.code == 128 + number and signal.getsignal(number) == handler
    assert checkpoints(tmp_path)[0].name == f'iter_{stop_at}.pth'
    resumed = tiny_runner(tmp_path, resume=True, **options)
    resumed.train()
    losses, weights = unbroken
    assert logged_losses(tmp_path) == losses and len(losses) == 8
    end = unwrap(resumed.model).state_dict()
    assert all(torch.equal(weights[key], end[key]) for key in weights)


def test_stages_train_their_parts_at_their_rates(tmp_path):
    stage = dict(epochs=1, schedule=dict(type=WarmupCosine, warmup=0.5))
    runner = tiny_runner(tmp_path)
    runner._train_loop['stages'] = [
        dict(name='head', parts=('coarse',), lr=1e-2, **stage),
        dict(name='all', parts=('encoder', 'coarse'), lr=1e-3, **stage),
    ]
    before = {k: v.clone() for k, v in runner.model.encoder.state_dict().items()}
    loop = runner.train_loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    loop._enter()
    loop._run_epoch()
    after = runner.model.encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)  # BatchNorm included
    loop._leave()
    loop._enter()
    assert not runner.optim_wrapper.optimizer.state
    loop._run_epoch()
    after = runner.model.encoder.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_a_budget_shortens_the_stages_in_proportion_and_leaves_the_model_alone(tmp_path):
    runner = tiny_runner(tmp_path)
    loop = runner.train_loop
    before = {k: v.clone() for k, v in unwrap(runner.model).state_dict().items()}
    rows = plan(loop, budget_s=1e-3)
    assert sum(row['planned_s'] for row in rows) == pytest.approx(1e-3)
    assert loop.stage.share_s == pytest.approx(1e-4)  # the rest is for the validation
    assert 'shortened' in describe_plan(rows, 1e-3)[0]
    after = unwrap(runner.model).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    runner.train()
    assert loop.iter == 1 and loop.stage.elapsed_s > 0
    generous = tiny_runner(tmp_path / 'generous')
    rows = plan(generous.train_loop, budget_s=1e6)
    assert generous.train_loop.stage.share_s is None and 'fits' in describe_plan(rows, 1e6)[0]
    assert generous.train_loop.stage.has_budget


def test_an_estimate_counts_the_validations_and_a_resumed_run_says_of_what_it_is(
    tmp_path, monkeypatch
):
    for name, seconds in (('_time_data', 0.0), ('_time_validation', 10.0), ('_time_step', 1.0)):
        monkeypatch.setattr(budget, name, lambda *args, seconds=seconds: seconds)
    (tmp_path / 'iter_4.pth').touch()
    changes = {'train_cfg.stages.0.epochs': 3, 'train_cfg.val_interval': 2}
    runner = tiny_runner(tmp_path, resume=True, **changes)
    said = []
    monkeypatch.setattr(runner.logger, 'info', said.append)
    (row,) = _announce(runner, budget_s=16.0)
    # 3 epochs of 4 steps; validated after the second and after the last.
    assert row['full_s'] == 12 * 1.0 + 2 * 10.0 and row['share_s'] == 16.0 - 10.0
    assert any('about 32 s on this machine, validation included' in line for line in said)
    assert any('about 6 steps' in line for line in said)
    assert 'of the whole' in said[-2] and 'first plan stands' in said[-1]


def stage_of(share_s, has_budget):
    schedule = WarmupCosine(warmup=0.1)
    return Stage(name='all', parts=('coarse',), epochs=2, lr=1e-3, schedule=schedule,
                 share_s=share_s, has_budget=has_budget)  # fmt: skip


@pytest.mark.parametrize(('first', 'again'), [(5.0, None), (None, 5.0), (5.0, 4.0)])
def test_what_the_first_plan_of_a_budget_said_stands(first, again):
    saved = stage_of(first, has_budget=True).state_dict()
    resumed, unhurried = stage_of(again, has_budget=True), stage_of(None, has_budget=False)
    resumed.load_state_dict(saved)
    unhurried.load_state_dict(saved)
    assert resumed.share_s == first and unhurried.share_s is None


def test_durations_are_read_and_nonsense_is_not():
    assert [parse_duration(t) for t in ('90s', '10m', '1.5h')] == [90, 600, 5400]
    for text in ('10', 'm', '0m', '-3m', '10 minutes'):
        with pytest.raises(ValueError, match='10m'):
            parse_duration(text)


def test_a_bad_loss_stops_at_once_and_names_the_samples(tmp_path):
    runner = tiny_runner(tmp_path)
    with torch.no_grad():
        runner.model.coarse.predict_logit.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match='synthetic/'):
        runner.train()
    assert not checkpoints(tmp_path)


def test_a_bad_gradient_stops_before_any_weight_changes(tmp_path):
    runner = tiny_runner(tmp_path)
    before = {k: v.clone() for k, v in runner.model.named_parameters()}
    runner.model.coarse.conv.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(FloatingPointError, match='gradient .* in iteration 0 on .*synthetic/'):
        runner.train()
    assert all(torch.equal(before[k], v) for k, v in runner.model.named_parameters())
    assert not checkpoints(tmp_path)


def test_a_bad_validation_loss_stops_the_run(tmp_path, monkeypatch):
    runner = tiny_runner(tmp_path)
    monkeypatch.setattr(runner.model, 'validate', lambda batch: (math.nan, batch['data_samples']))
    with pytest.raises(FloatingPointError, match='validation loss'):
        runner.train()
    # The first epoch was saved and is not validated here; the second one is, before it is saved.
    assert [path.name for path in checkpoints(tmp_path)] == ['iter_4.pth']


def test_plateau_halves_after_patience_and_remembers():
    schedule = Plateau(patience=3)
    for loss in (1.0, 0.9, 0.95, 0.92):
        schedule.after_validation(loss)
    again = Plateau(patience=3)
    again.load_state_dict(schedule.state_dict())
    for s in (schedule, again):
        assert s.factor(0.5) == 1.0
        s.after_validation(math.nan)  # never an improvement
        assert s.factor(0.5) == 0.5


def test_warmup_cosine_rises_and_falls_to_zero():
    schedule = WarmupCosine(warmup=0.1)
    values = [schedule.factor(p / 100) for p in range(101)]
    assert max(values) == pytest.approx(1) and values.index(max(values)) == 10
    assert 0 < values[0] < 0.1 and values[-1] == pytest.approx(0)


def test_a_crash_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'iter_1.pth'
    save_checkpoint(path, dict(value=torch.ones(3)))
    monkeypatch.setattr(torch, 'save', lambda state, file: file.write_bytes(b'half') and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(path, dict(value=torch.zeros(3)))
    assert torch.equal(load_checkpoint(path)['value'], torch.ones(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['iter_1.pth', 'iter_1.pth.sha256']


def test_one_flipped_bit_is_noticed_and_the_checkpoint_before_is_taken(tmp_path):
    for n in (1, 2):
        save_checkpoint(tmp_path / f'iter_{n}.pth', dict(value=torch.full((300,), float(n))))
    newest = tmp_path / 'iter_2.pth'
    whole = newest.read_bytes()
    for position in range(0, len(whole), len(whole) // 20):
        newest.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        said = []
        path, state = load_newest(tmp_path, said.append)
        assert path.name == 'iter_1.pth' and (state['value'] == 1).all()
        assert 'iter_2.pth' in said[0]
    newest.write_bytes(whole[:100])
    (tmp_path / 'iter_2.pth.sha256').unlink()  # torch finds this one out by itself
    assert load_newest(tmp_path, said.append)[0].name == 'iter_1.pth'
    (tmp_path / 'iter_1.pth').write_bytes(b'')
    with pytest.raises(DamagedFileError, match='none of the 2 checkpoints'):
        load_newest(tmp_path, said.append)
    assert load_newest(tmp_path / 'nowhere', said.append) is None


def test_what_an_interrupted_save_left_is_swept(tmp_path):
    save_checkpoint(tmp_path / 'iter_3.pth', {})
    for name in ('iter_4.pth.part', 'iter_2.pth.sha256', 'iter_4.pth.sha256.part'):
        (tmp_path / name).write_text('', encoding='utf-8')
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['iter_3.pth', 'iter_3.pth.sha256']


def test_a_full_disk_is_survived_and_told(tmp_path, monkeypatch):
    runner = tiny_runner(tmp_path)
    save, full = torch.save, iter([False, True])

    def save_or_fail(state, file):
        if next(full):
            file.write_bytes(b'half')
            raise OSError(errno.ENOSPC, 'No space left on device')
        save(state, file)

    monkeypatch.setattr(torch, 'save', save_or_fail)
    runner.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, SaveCheckpoint))
    assert len(hook.failures) == 1 and 'iter_8.pth' in hook.failures[0]
    assert 'No space' in hook.failures[0]
    assert [p.name for p in checkpoints(tmp_path)] == ['iter_4.pth']
    assert not list(tmp_path.glob('*.part'))


def test_only_two_checkpoints_are_kept(tmp_path):
    stages = dict(type=WarmupCosine, warmup=0.1)
    runner = tiny_runner(tmp_path, **{'train_dataloader.dataset.length': 4})
    runner._train_loop['stages'] = [
        dict(name='all', parts=('coarse',), epochs=4, lr=1e-3, schedule=stages)
    ]
    runner.train()
    assert sorted(p.name for p in tmp_path.glob('iter_*')) == [
        'iter_3.pth', 'iter_3.pth.sha256', 'iter_4.pth', 'iter_4.pth.sha256',
    ]  # fmt: skip


def test_resuming_under_another_config_is_told_and_runs_nothing_stored(tmp_path):
    tiny_runner(tmp_path).train()
    path = checkpoints(tmp_path)[0]
    state = load_checkpoint(path)
    trap = tmp_path / 'trap'
    state['config'] = f"x = __import__('pathlib').Path({str(trap)!r}).touch()"
    save_checkpoint(path, state)
    runner = tiny_runner(tmp_path, resume=True)
    said = []
    runner.logger.warning = said.append
    runner.train()
    assert runner.iter == 8 and not trap.exists()
    assert 'another config' in said[0] and 'touch' in said[0]


def test_a_result_goes_only_once_a_checkpoint_was_read(tmp_path):
    runner = tiny_runner(tmp_path)
    runner.train()
    save_weights(tmp_path / WEIGHTS, unwrap(runner.model))
    (tmp_path / RECORD).touch()
    done = [tmp_path / name for name in (WEIGHTS, f'{WEIGHTS}.sha256', RECORD)]
    whole = {path: path.read_bytes() for path in checkpoints(tmp_path)}
    for path in whole:
        path.write_bytes(b'damaged')
    with pytest.raises(DamagedFileError, match='none of the 2 checkpoints'):
        tiny_runner(tmp_path, resume=True).train()
    assert all(path.is_file() for path in done)
    load_weights(tmp_path / WEIGHTS, unwrap(runner.model))
    for path, content in whole.items():
        path.write_bytes(content)
    tiny_runner(tmp_path, resume=True).train()
    assert not any(path.exists() for path in done)


def test_weights_round_trip_and_strangers_are_refused(tmp_path):
    model, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    path = tmp_path / 'model.safetensors'
    save_weights(path, model)
    load_weights(path, other)
    assert torch.equal(model.weight, other.weight)
    with pytest.raises(RuntimeError, match='another model'):
        load_weights(path, torch.nn.Linear(4, 2))
    with pytest.raises(FileNotFoundError, match='no weights at'):
        load_weights(tmp_path / 'none.safetensors', model)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(RuntimeError, match='model.safetensors'):
        load_weights(path, other)


def test_weights_go_into_a_model_of_more_large_kernels_and_into_no_other(tmp_path):
    path = tmp_path / 'model.safetensors'
    small, deep = (
        torch.nn.Sequential(*(LargeKernelBlock(channels=4, side=3) for _ in range(n))).eval()
        for n in (1, 2)
    )
    torch.nn.init.ones_(small[0].body[-1].weight)
    save_weights(path, small)
    maps = torch.randn(1, 4, 8, 8)
    assert not torch.allclose(small(maps), maps)
    assert load_grown(path, deep) == ['1']
    assert torch.allclose(deep(maps), small(maps))
    with pytest.raises(RuntimeError, match='another model'):
        load_grown(path, torch.nn.Linear(4, 2))


def test_iterations_have_seeds_of_their_own():
    seeds = {iteration_seed(0, i) for i in range(100)} | {iteration_seed(1, i) for i in range(100)}
    assert len(seeds) == 200


def test_runners_built_within_a_second_keep_their_logs_apart(tmp_path):
    first, second = (tiny_runner(tmp_path / name, **EVERY_LOSS) for name in 'ab')
    first.train()
    assert len(logged_losses(tmp_path / 'a')) == 8
    assert second.visualizer is not first.visualizer
    assert second.logger is not first.logger and second.message_hub is not first.message_hub


AVERAGED = {'custom_hooks': [dict(type='pipedet.WeightAverage', horizon=3)]}


def test_the_mean_of_the_weights_is_what_is_validated_and_left(tmp_path):
    runner, seen, validated = tiny_runner(tmp_path, **AVERAGED), [], []
    model = unwrap(runner.model)
    step, validate = runner.train_loop._run_iter, model.validate
    seen.append({k: v.clone() for k, v in model.state_dict().items()})

    def step_and_note(index, batch):
        step(index, batch)
        seen.append({k: v.clone() for k, v in model.state_dict().items()})

    def note_and_validate(batch):
        validated.append({k: v.clone() for k, v in model.state_dict().items()})
        return validate(batch)

    runner.train_loop._run_iter, model.validate = step_and_note, note_and_validate
    runner.train()
    mean = dict(seen[0])
    for steps, weights in enumerate(seen[1:], start=1):
        share = 1 / min(3, 1 + steps / 10)
        mean = {k: v + share * (weights[k] - v) for k, v in mean.items() if v.is_floating_point()}
    left = model.state_dict()
    assert all(torch.allclose(left[k], v, atol=1e-6) for k, v in mean.items())
    assert all(torch.allclose(validated[-1][k], v, atol=1e-6) for k, v in mean.items())
    other = tiny_runner(tmp_path / 'other')
    load_weights(checkpoints(tmp_path)[0], unwrap(other.model))  # before its optimiser has ended
    assert all(torch.equal(unwrap(other.model).state_dict()[k], left[k]) for k in mean)


def test_a_resumed_run_averages_on(tmp_path):
    unbroken = tiny_runner(tmp_path / 'unbroken', **AVERAGED)
    unbroken.train()
    first = tiny_runner(tmp_path / 'broken', **AVERAGED)
    step = first.train_loop._run_iter

    def step_and_signal(index, batch):
        step(index, batch)
        if first.train_loop.iter == 5:
            signal.raise_signal(signal.SIGTERM)

    first.train_loop._run_iter = step_and_signal
    with pytest.raises(SystemExit):
        first.train()
    resumed = tiny_runner(tmp_path / 'broken', resume=True, **AVERAGED)
    resumed.train()
    ends = [unwrap(runner.model).state_dict() for runner in (unbroken, resumed)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def statistics_of(weights):
    return {k: v for k, v in weights.items() if k.endswith(('running_mean', 'running_var'))}


def train_one_of_two_ranks(rank, folder, port):
    """Train as a task of SLURM on CPUs; leave this rank's running statistics in `folder`."""
    os.environ |= dict(
        SLURM_STEP_NUM_TASKS='2', SLURM_NTASKS='2', SLURM_PROCID=str(rank),
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    runner, validated, saved = tiny_runner(folder, **AVERAGED), [], []
    model = unwrap(runner.model)
    validate = model.validate

    def note_and_validate(batch):
        validated.append({k: v.clone() for k, v in statistics_of(model.state_dict()).items()})
        return validate(batch)

    def note_both(runner):
        mean = next(h.weights for h in runner.hooks if type(h).__name__ == 'WeightAverage')
        for weights in (model.state_dict(), mean):
            saved.append({k: v.clone() for k, v in statistics_of(weights).items()})

    model.validate = note_and_validate
    hook = next(hook for hook in runner.hooks if isinstance(hook, SaveCheckpoint))
    hook.after_train_epoch = note_both
    runner.train()
    left = statistics_of(model.state_dict())
    torch.save([*validated, *saved, left], folder / f'rank_{rank}.pt')


def test_two_ranks_validate_and_save_and_end_with_the_same_statistics(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train_one_of_two_ranks, (tmp_path, port), nprocs=2)
    first, second = (torch.load(tmp_path / f'rank_{rank}.pt') for rank in range(2))
    # Validated once, saved twice with the mean of the weights beside them, left once.
    assert len(first) == len(second) == 1 + 2 * 2 + 1
    for one, other in zip(first, second, strict=True):
        assert one and all(torch.equal(one[key], other[key]) for key in one)
