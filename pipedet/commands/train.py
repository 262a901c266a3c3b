"""Train a config, then test it: everything a run leaves behind is in its run folder."""

import argparse
import csv
import json
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import LoggerHook
from mmengine.runner import set_random_seed

from pipedet.commands.common import (
    add_config_arguments,
    add_data_arguments,
    build_runner,
    datasets_of,
    device_name,
    environment,
    labelled_images,
    load_config,
    same_type,
    set_in_images,
)
from pipedet.commands.start import begin_with_weights, give_teacher
from pipedet.commands.test import run_test
from pipedet.engine import TipRunner
from pipedet.engine.budget import describe_plan, draw_kept, parse_duration, plan
from pipedet.engine.checkpoint import RECORD, WEIGHTS, checkpoints, save_weights
from pipedet.engine.loops import iteration_seed
from pipedet.models.parts import count_parameters, unwrap
from pipedet.visualization import plot_curves

DATA = 'data.json'  # what it was trained, validated and tested on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument(
        '--resume', action='store_true', help='continue the run in the run folder, same options'
    )
    parser.add_argument('--seed', type=int, help='of weights, data and everything random')
    parser.add_argument(
        '--budget',
        type=_duration,
        metavar='T',
        help='shorten the training to about T, such as 10m or 2h; testing comes after that',
    )
    add_data_arguments(parser, 'for a config that reads labelled images', required=False)
    parser.add_argument(
        '--strict', action='store_true', help='stop at bad labelled images, do not leave them out'
    )
    parser.add_argument('--no-test', action='store_true', help='leave the test to another day')


def run(args: argparse.Namespace) -> None:
    """Train what comes first, where the config names it, then the config itself; then test."""
    config = load_config(args)
    datasets = datasets_of(config)
    if args.data is not None and not set_in_images(datasets, labelled_images(args)):
        raise ValueError(f'{args.config} reads no labelled images: --data is for labelled.py')
    if args.strict and not set_in_images(datasets, dict(strict=True)):
        raise ValueError(f'{args.config} reads no labelled images: --strict is for those')
    _refuse_to_lose(Path(config.work_dir), args.resume)
    first = config.get('first')
    if first is None:
        train(config, args, args.budget)
    elif first.weights is not None:
        train(config, args, args.budget, Path(first.weights))
    else:
        prepare_seeds(config, args.seed)  # a fault in these should not wait for the first training
        weights = _train_first(config, args)
        train(config, args, args.budget and args.budget * (1 - first.share), weights)


def _train_first(config: Config, args: argparse.Namespace) -> Path:
    """Train the config that `first` names, in a folder of its own; return its weights."""
    first, folder = config.first, Path(config.work_dir) / 'first'
    weights = folder / WEIGHTS
    if args.resume and weights.is_file():
        return weights
    begun = folder / 'config.py'  # a run is resumed from its folder, where no other config lies
    path = begun if begun.is_file() else Path(config.filename).parent / first.config
    own = Config.fromfile(path)
    own.work_dir = str(folder)
    part = config.model
    for name in first.part.split('.'):
        part = part[name]
    if same_type(part) != same_type(own.model.generator):
        raise ValueError(
            f'model.{first.part} is another network than {path} trains: {dict(part)} against '
            f'{dict(own.model.generator)}'
        )
    print(
        f'first {first.part} is trained ({first.config}), then {args.config.name}; each says at '
        'its own start how long it takes'
    )
    train(own, args, args.budget and args.budget * first.share)
    return weights


def _refuse_to_lose(folder: Path, resume: bool) -> None:
    """Refuse to begin where there is a run, or to go on where only its result is left."""
    if resume:
        done = folder / WEIGHTS
        if done.is_file() and not checkpoints(folder):
            raise ValueError(
                f'{done} is of a run without a checkpoint to resume from: to train on from these '
                f'weights, choose another --work-dir and add --cfg-options load_from={done}'
            )
        return
    for run in (folder, folder / 'first'):
        if checkpoints(run) or (run / WEIGHTS).is_file():
            raise ValueError(
                f'{run} holds a run: add --resume to continue it, or choose another --work-dir'
            )


def train(
    config: Config,
    args: argparse.Namespace,
    budget_s: float | None,
    first_weights: Path | None = None,
) -> None:
    """Train one config in its run folder, then test.

    Args:
        config: the config.
        args: of the command, for `seed`, `resume` and `no_test`.
        budget_s: wall clock to fit the training into, None for the full recipe.
        first_weights: weights of the run that came first, for the part that `first` names.
    """
    folder = Path(config.work_dir)
    prepare_seeds(config, args.seed)
    config.resume = args.resume
    runner = build_runner(config)
    begin_with_weights(runner, first_weights)
    give_teacher(runner)
    planned = _announce(runner, budget_s)
    if not args.no_test:
        runner.logger.info('testing comes after that, its time is not counted')
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
        budget_s=budget_s,
        planned=planned,
        train_s=round(sum(s.elapsed_s for s in loop.stages), 1),
        stages=[
            dict(stage=s.name, steps=s.iters_done, seconds=round(s.elapsed_s, 1))
            for s in loop.stages
        ],
        batch_size=loop.dataloader.batch_size * ranks,
        samples_seen=loop.iter * loop.dataloader.batch_size * ranks,
        unread=sorted(loop.unread),
        validation=loop.validation,
    )
    if is_main_process():
        save_weights(folder / WEIGHTS, unwrap(runner.model))
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding='utf-8')
        plot_curves(folder, folder / 'curves.png')
    failures = [f for hook in runner.hooks for f in getattr(hook, 'failures', [])]
    if not args.no_test:
        run_test(runner, folder / 'test', {'weights': 'as trained', 'training': _in_words(record)})
    if failures:
        raise RuntimeError(
            f'{len(failures)} saves failed, the run is otherwise whole: {failures[-1]}'
        )


def prepare_seeds(config: Config, seed: int | None) -> None:
    """Set the seed of everything random; refuse that of the scenes to validate or test on."""
    if seed is not None:
        config.randomness.seed = seed
        for index, stream in enumerate(_streams(config.train_dataloader.dataset)):
            # Domains that belong to no pairs must not show the same scenes.
            stream.seed = seed if index == 0 else iteration_seed(seed, index)
    taken = {
        stream.seed
        for name in ('val', 'test')
        for stream in _streams(config[f'{name}_dataloader'].dataset)
        if 'recipes' in stream
    }
    for stream in _streams(config.train_dataloader.dataset):
        if 'recipes' in stream and stream.seed in taken:
            raise ValueError(
                f'seed {stream.seed} is that of the validation scenes or of those to test on: '
                'choose another'
            )


def _streams(dataset: Config) -> list[Config]:
    """Return the configs that a dataset is joined from, or its own."""
    parts = [*dataset.get('sets', []), *(dataset[k] for k in ('source', 'target') if k in dataset)]
    return [stream for part in parts for stream in _streams(part)] if parts else [dataset]


def _announce(runner: TipRunner, budget_s: float | None) -> list[dict]:
    """Say first what will run on what and for how long."""
    loop, log = runner.train_loop, runner.logger.info
    log(f'device: {device_name(next(runner.model.parameters()).device)}')
    log(f'training data: {loop.dataloader.dataset.describe()}')
    log(f'model: {count_parameters(runner.model) / 1e6:.1f} M parameters')
    # A run that goes on draws the scenes that its own epoch keeps, not those of the first one.
    goes_on = runner.cfg.resume and checkpoints(Path(runner.work_dir))
    if budget_s is not None and not goes_on:
        drawn_s = draw_kept(loop.dataloader.dataset)
        log(f'{drawn_s:.0f} s of the budget went into scenes that are kept')
        budget_s = max(budget_s - drawn_s, 0.1 * budget_s)
    rows = [plan(loop, budget_s)]
    broadcast_object_list(rows)  # each rank measured its own; all keep to the first one's
    for stage, row in zip(loop.stages, rows[0], strict=True):
        stage.share_s = row['share_s']
    for line in describe_plan(rows[0], budget_s):
        log(line)
    if goes_on:
        log('this run goes on: these times are of the whole of it, not of what is left')
        if budget_s is not None:
            log('its first plan stands: a budget is shared out once, when a run begins')
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
    """Write the resolved config, the environment, what the data are and how they are split."""
    runner.cfg.dump(folder / 'config.py')
    (folder / 'environment.json').write_text(json.dumps(environment(), indent=1), encoding='utf-8')
    loops = dict(train=runner.train_loop, val=runner.val_loop, test=runner.test_loop)
    data = {name: loop.dataloader.dataset.describe() for name, loop in loops.items()}
    (folder / DATA).write_text(json.dumps(data, indent=1), encoding='utf-8')
    rows = [
        dict(split=name, **image)
        for name, loop in loops.items()
        for image in loop.dataloader.dataset.images()
    ]
    if rows:
        with open(folder / 'split.csv', 'w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def _in_words(record: dict) -> str:
    stages = ', '.join(f'{s["stage"]} {s["steps"]} steps' for s in record['stages'])
    budget = '' if record['budget_s'] is None else f' within a budget of {record["budget_s"]:.0f} s'
    return f'{stages}, batch {record["batch_size"]}, {record["train_s"]:.0f} s{budget}'
