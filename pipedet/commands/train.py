"""Train a config, then test it: everything a run leaves behind is in its run folder."""

import argparse
import json
import sys
from pathlib import Path

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import LoggerHook
from mmengine.runner import set_random_seed
from mmengine.utils.dl_utils import collect_env

from pipedet.commands.common import add_config_arguments, build_runner, device_name, load_config
from pipedet.commands.test import run_test
from pipedet.engine import TipRunner
from pipedet.engine.budget import describe_plan, parse_duration, plan
from pipedet.engine.checkpoint import checkpoints, save_weights
from pipedet.models.detectors import count_parameters, unwrap
from pipedet.visualization import plot_curves


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument(
        '--resume', action='store_true', help='continue the run in the run folder, same options'
    )
    parser.add_argument('--seed', type=int, help='of weights, data and everything random')
    parser.add_argument(
        '--budget', type=_duration, metavar='T', help='train for at most T, such as 10m or 2h'
    )


def run(args: argparse.Namespace) -> None:
    """Train, then test."""
    config = load_config(args)
    folder = Path(config.work_dir)
    if checkpoints(folder) and not args.resume:
        raise ValueError(
            f'{folder} holds a run: add --resume to continue it, or choose another --work-dir'
        )
    if args.seed is not None:
        config.randomness.seed = config.train_dataloader.dataset.seed = args.seed
    streams = [config[f'{name}_dataloader'].dataset for name in ('train', 'val')]
    if all('recipes' in s for s in streams) and streams[0].seed == streams[1].seed:
        raise ValueError(f'seed {streams[0].seed} is that of the validation scenes: choose another')
    config.resume = args.resume
    runner = build_runner(config)
    planned = _announce(runner, args.budget)
    if is_main_process():
        _write_provenance(runner, folder)
    # Probing drew random numbers; training starts from the seed whether it was probed or not.
    set_random_seed(runner.seed)
    runner.train()
    loop, ranks = runner.train_loop, get_world_size()
    record = dict(
        command=' '.join(sys.argv[1:]),
        device=device_name(next(runner.model.parameters()).device),
        ranks=ranks,
        budget_s=args.budget,
        planned=planned,
        train_s=round(sum(s.elapsed_s for s in loop.stages), 1),
        stages=[
            dict(stage=s.name, steps=s.iters_done, seconds=round(s.elapsed_s, 1))
            for s in loop.stages
        ],
        batch_size=loop.dataloader.batch_size * ranks,
        samples_seen=loop.iter * loop.dataloader.batch_size * ranks,
        unread=sorted(loop.unread),
    )
    if is_main_process():
        save_weights(folder / 'model.safetensors', unwrap(runner.model))
        (folder / 'train.json').write_text(json.dumps(record, indent=1))
        plot_curves(folder, folder / 'curves.png')
    failures = [f for hook in runner.hooks for f in getattr(hook, 'failures', [])]
    run_test(runner, folder / 'test', {'weights': 'as trained', 'training': _in_words(record)})
    if failures:
        raise RuntimeError(
            f'{len(failures)} saves failed, the run is otherwise whole: {failures[-1]}'
        )


def _announce(runner: TipRunner, budget_s: float | None) -> list[dict]:
    """Say first what will run on what and for how long."""
    loop, log = runner.train_loop, runner.logger.info
    log(f'device: {device_name(next(runner.model.parameters()).device)}')
    log(f'training data: {loop.dataloader.dataset.describe()}')
    log(f'model: {count_parameters(runner.model) / 1e6:.1f} M parameters')
    rows = [plan(loop, budget_s)]
    broadcast_object_list(rows)  # each rank measured its own; all keep to the first one's
    for stage, row in zip(loop.stages, rows[0], strict=True):
        stage.share_s = row['share_s']
    for line in describe_plan(rows[0], budget_s):
        log(line)
    log('testing comes after that')
    _log_often_enough(runner)
    return rows[0]


def _log_often_enough(runner: TipRunner) -> None:
    """Give a stage of a few slow steps its progress lines too."""
    loop = runner.train_loop
    fewest = min(loop.expected_iters(stage) for stage in loop.stages)
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook):
            hook.interval = min(hook.interval, max(1, fewest // 5))


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _write_provenance(runner: TipRunner, folder: Path) -> None:
    """Write the resolved config, the environment and what the data are."""
    runner.cfg.dump(folder / 'config.py')
    environment = {key: str(value) for key, value in collect_env().items()}
    (folder / 'environment.json').write_text(json.dumps(environment, indent=1))
    loops = dict(train=runner.train_loop, val=runner.val_loop, test=runner.test_loop)
    data = {name: loop.dataloader.dataset.describe() for name, loop in loops.items()}
    (folder / 'data.json').write_text(json.dumps(data, indent=1))


def _in_words(record: dict) -> str:
    stages = ', '.join(f'{s["stage"]} {s["steps"]} steps' for s in record['stages'])
    budget = '' if record['budget_s'] is None else f' within a budget of {record["budget_s"]:.0f} s'
    return f'{stages}, batch {record["batch_size"]}, {record["train_s"]:.0f} s{budget}'
