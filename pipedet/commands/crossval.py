"""Train on all recording sessions but one and test on that one, for each of them in turn.

    pipedet crossval configs/quickstart.py --data my_frames/ --pixel-size-um 0.76 --seeds 0 1

Every fold and seed is a `pipedet train` in a process of its own. It validates on a part of its
training sessions: what is left out is seen by its test alone. `--leave-out image` leaves out single
images, which flatters wherever a session has several of them. A training set that joins scenes and
labelled images, as `configs/labelled.py` has, keeps the scenes; any other is replaced. Run again,
the same command goes on where it stopped.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from pipedet.commands.common import (
    add_config_arguments,
    add_data_arguments,
    labelled_images,
    load_config,
)
from pipedet.commands.launch import agree_on, digest_of, launch
from pipedet.datasets import DatasetError, PipetteImages
from pipedet.datasets.splits import find_leaks, make_folds, name_copies
from pipedet.engine.budget import parse_duration
from pipedet.evaluation.folds import FoldResult, write_folds
from pipedet.evaluation.report import read_records
from pipedet.formats.digest import sha256_of
from pipedet.registry import DATASETS, TRANSFORMS

FRACTIONS = (0.85, 0.15, 0.0)  # of what is not left out, for training and validation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    add_data_arguments(parser, 'of labelled images', required=True)
    add = parser.add_argument
    add('--leave-out', choices=('session', 'image'), default='session', help='[%(default)s]')
    add('--folds', type=int, help='leave out several at a time, in so many folds [one at a time]')
    add('--seeds', type=int, nargs='+', default=[0], help='to train each fold with [0]')
    add('--budget', metavar='T', help='train for about T each time, such as 10m')


def run(args: argparse.Namespace) -> None:
    """Do what is not done of all folds; write crossval.json and crossval.md after each training."""
    config = load_config(args)
    if 'predict_pipeline' not in config:
        raise ValueError(f'{args.config} finds no tips: crossval is for localisers')
    if args.budget is not None:
        parse_duration(args.budget)  # a fault in it should not wait for the first fold
    images = labelled_images(args)
    dataset = DATASETS.build(dict(images, pipeline=[]))
    names = dataset.group_names(args.leave_out)
    folds = make_folds(names, [len(record.tips) > 0 for record in dataset.records], args.folds)
    context = dict(
        config=args.config.name,
        data=dataset.describe(),
        left_out=args.leave_out + _describe_leaks(dataset, folds, args.leave_out),
        trainings=f'{max(folds) + 1} folds, seeds {args.seeds}, budget {args.budget or "none"}',
        date=datetime.date.today().isoformat(),
    )
    labels = sha256_of(dataset.root / args.annotations)
    settings = dict(images, labels=labels, folds=dict(zip(names, folds, strict=True)))
    settings |= dict(config=digest_of(config), budget=args.budget)
    folder = Path(config.work_dir)
    agree_on(settings, folder / 'settings.json')
    results, text = [], ''
    for fold in range(max(folds) + 1):
        path = folder / f'fold_{fold:02d}' / f'{args.config.stem}_fold.py'
        left_out = _write_fold(args, images, dataset, np.equal(folds, fold), path)
        for seed in args.seeds:
            print(f'fold {fold}, seed {seed}, without {left_out}', flush=True)
            result = FoldResult(fold, seed, left_out)
            results.append(result)
            _complete(result, path, args.budget)
            text = write_folds(results, context, folder)
    print(text)
    faults = [result.fault for result in results if result.fault]
    if faults:
        raise RuntimeError(
            f'{len(faults)} of {len(results)} trainings failed, the first one: {faults[0]}; the '
            'same command tries them again'
        )


def _describe_leaks(dataset: PipetteImages, folds: list[int], leave_out: str) -> str:
    """Refuse files that folds of sessions share; say what folds of images do."""
    numbers = [str(fold) for fold in folds]
    files = name_copies(dataset.folder, [record.file_name for record in dataset.records])
    leaks = find_leaks(files, numbers)
    if leave_out == 'session' and leaks:
        raise DatasetError(
            f'files in more than one session: {leaks}; give all frames and copies of a file one'
        )
    shared = find_leaks(dataset.group_names('session'), numbers)
    told = dict(sessions=len(shared), files=len(leaks))
    said = [
        f'{count} {name} are trained and tested on at once' for name, count in told.items() if count
    ]
    return ''.join(f', {text}' for text in said)


def _write_fold(
    args: argparse.Namespace, images: dict, dataset: PipetteImages, tested: np.ndarray, path: Path
) -> str:
    """Write the config of a fold that leaves out the `tested` images; say which these are."""

    def groups(by: str, chosen: np.ndarray) -> list[str]:
        return np.unique(np.array(dataset.group_names(by))[chosen]).tolist()

    config, by, left_out = load_config(args), args.leave_out, groups(args.leave_out, tested)
    said = ', '.join(left_out[:3]) + f' and {len(left_out) - 3} more' * (len(left_out) > 3)
    tipped = np.array([len(record.tips) > 0 for record in dataset.records])
    if by == 'session' and len(groups(by, ~tested & tipped)) == 1:
        by, said = 'image', f'{said}; validated on images of the one session to train on'
    kept = dict(images, groups=groups(by, ~tested), split_by=by, fractions=FRACTIONS)
    own = dict(images, groups=left_out, split_by=args.leave_out)
    pipeline = config.predict_pipeline
    _set_train_images(config, dict(kept, split='train'))
    config.val_dataloader.dataset = dict(kept, split='val', pipeline=pipeline)
    config.test_dataloader.dataset = dict(own, pipeline=pipeline)
    if 'first' in config:  # it is named from the folder of a config, which this one leaves
        config.first.config = str((args.config.parent / config.first.config).resolve())
    path.parent.mkdir(exist_ok=True)
    config.dump(path)
    return said


def _set_train_images(config: Config, images: dict[str, Any]) -> None:
    """Put images where the config has its own, or in the place of its scenes."""
    dataset = config.train_dataloader.dataset
    sets = dataset.get('sets', [dataset])
    own, scenes = ([s for s in sets if ('root' in s) == is_own] for is_own in (True, False))
    pipeline = (own or scenes)[0].pipeline
    kinds = {_kind(transform) for transform in pipeline}
    # Scenes are made at the size of the input; images must be brought to it, before anything else.
    missing = [t for t in config.predict_pipeline[:-1] if _kind(t) not in kinds]
    images['pipeline'] = [*missing, *pipeline]
    if own and scenes:
        dataset.sets = [*scenes, images]
    else:
        config.train_dataloader.dataset = images


def _kind(transform: dict[str, Any]) -> type:
    kind = transform['type']
    return TRANSFORMS.get(kind) if isinstance(kind, str) else kind


def _complete(result: FoldResult, path: Path, budget: str | None) -> None:
    """Train and test one fold, unless that is done."""
    folder = path.parent / f'seed_{result.seed}'
    tested = folder / 'test' / 'records.json'
    # --resume begins a training that has not begun.
    options = ['--work-dir', folder, '--resume', '--seed', result.seed]
    options += [] if budget is None else ['--budget', budget]
    try:
        if not tested.is_file():
            launch('train', path, *options, log=folder / 'log.txt')
        result.records = read_records(tested)
        result.device = json.loads((folder / 'train.json').read_text(encoding='utf-8'))['device']
    except (RuntimeError, ValueError, OSError) as error:
        print(f'failed: {error}', flush=True)
        result.fault = str(error)
