import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pipedet.commands.common import build_runner
from pipedet.engine import Plateau, WarmupCosine
from pipedet.engine.budget import describe_plan, parse_duration, plan
from pipedet.engine.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from pipedet.engine.loops import iteration_seed
from pipedet.models.detectors import unwrap

TINY = Path(__file__).parent.parent / 'configs' / '_base_' / 'tiny.py'


def tiny_runner(folder, resume=False, **changes):
    config = Config.fromfile(TINY)
    config.work_dir = str(folder)
    config.resume = resume
    config.model.encoder.name = 'mobilenetv4_conv_small_050'
    config.merge_from_dict(changes)
    return build_runner(config)


def logged_losses(folder):
    rows = []
    for log in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        rows += [json.loads(line) for line in log.read_text().splitlines()]
    return {row['step']: row['loss'] for row in rows if 'lr' in row}


def test_stop_and_resume_repeats_the_unbroken_run(tmp_path):
    options = {'default_hooks.logger.interval': 1, 'log_processor.window_size': 1}
    whole = tiny_runner(tmp_path / 'whole', **options)
    whole.train()
    broken = tiny_runner(tmp_path / 'broken', **options)
    stop_after = broken.train_loop._run_epoch

    def one_epoch():
        stop_after()
        raise KeyboardInterrupt

    broken.train_loop._run_epoch = one_epoch
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    resumed = tiny_runner(tmp_path / 'broken', resume=True, **options)
    resumed.train()
    assert resumed.train_loop.iter == whole.train_loop.iter == 8
    assert logged_losses(tmp_path / 'broken') == logged_losses(tmp_path / 'whole')
    ends = [unwrap(runner.model).state_dict() for runner in (whole, resumed)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


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
    assert latest_checkpoint(tmp_path) is None


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


def test_checkpoints_survive_a_crash_and_damage_is_named(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    save_checkpoint(path, dict(value=torch.ones(3)))
    monkeypatch.setattr(torch, 'save', lambda state, file: file.write(b'half') and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(path, dict(value=torch.zeros(3)))
    assert torch.equal(load_checkpoint(path)['value'], torch.ones(3))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RuntimeError, match='epoch_1.pth'):
        load_checkpoint(path)


def test_only_two_checkpoints_are_kept(tmp_path):
    stages = dict(type=WarmupCosine, warmup=0.1)
    runner = tiny_runner(tmp_path, **{'train_dataloader.dataset.length': 4})
    runner._train_loop['stages'] = [
        dict(name='all', parts=('coarse',), epochs=4, lr=1e-3, schedule=stages)
    ]
    runner.train()
    assert sorted(p.name for p in tmp_path.glob('epoch_*')) == ['epoch_3.pth', 'epoch_4.pth']


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


def test_iterations_have_seeds_of_their_own():
    seeds = {iteration_seed(0, i) for i in range(100)} | {iteration_seed(1, i) for i in range(100)}
    assert len(seeds) == 200
