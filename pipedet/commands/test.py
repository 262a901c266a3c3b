"""Test weights: tables by protocol, set, CNR band and number of pipettes, and pictures."""

import argparse
import datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from pipedet import __version__, zoo
from pipedet.commands.common import (
    add_config_arguments,
    add_data_arguments,
    build_runner,
    device_name,
    labelled_images,
    load_config,
    set_in_images,
)
from pipedet.engine import TipRunner
from pipedet.engine.checkpoint import WEIGHTS, load_weights
from pipedet.models.parts import StagedModel, unwrap
from pipedet.models.tip_detector import TipDetector

ORACLE_NOTE = 'crops at the LABELLED tips: labels are seen at test time, for reproduction only'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument('--checkpoint', type=Path, help='weights [model.safetensors of the run]')
    add_data_arguments(parser, 'to test on instead', required=False)
    parser.add_argument('--strict', action='store_true', help='stop at bad files, do not skip them')
    parser.add_argument('--out', type=Path, help='folder of the report [RUN FOLDER/test]')


def run(args: argparse.Namespace) -> None:
    """Test and write the report."""
    config, weights = _config_and_weights(args)
    if args.data is not None:
        if 'predict_pipeline' not in config:
            raise ValueError(f'{args.config} finds no tips: --data is for localisers')
        config.test_dataloader.dataset = dict(
            labelled_images(args), pipeline=config.predict_pipeline
        )
    if args.strict and not set_in_images(config.test_dataloader.dataset, dict(strict=True)):
        raise ValueError(f'{args.config} reads no labelled images: --strict is for those')
    runner = build_runner(config)
    folder = Path(config.work_dir)
    checkpoint = args.checkpoint or weights
    load_weights(checkpoint, unwrap(runner.model))
    name = 'test' if args.data is None else f'test_{args.data.resolve().name}'
    run_test(runner, args.out or folder / name, {'weights': checkpoint.name})


def _config_and_weights(args: argparse.Namespace) -> tuple[Config, Path]:
    """Return those of a model that ships, where CONFIG is its name, or else of a run."""
    name = str(args.config)
    if name not in zoo.names():
        config = load_config(args)
        return config, Path(config.work_dir) / WEIGHTS
    config = zoo.test_config(name)
    config.merge_from_dict(args.cfg_options)
    config.work_dir = str(args.work_dir or Path('work_dirs') / name)
    return config, zoo.weights_of(name)


def run_test(runner: TipRunner, folder: Path, context: dict[str, Any]) -> None:
    """Test the runner's model on its test set and leave report and pictures in `folder`."""
    dataset = runner.test_loop.dataloader.dataset
    runner.logger.info(f'test data: {dataset.describe()}')
    runner.test()
    if not is_main_process():
        return
    context = {
        'config': Path(runner.cfg.filename).name,
        **context,
        **_crop(unwrap(runner.model)),
        'data': dataset.describe(),
        'device': device_name(next(runner.model.parameters()).device),
        'seed': runner.seed,
        'date': datetime.date.today().isoformat(),
        'versions': f'pipedet {__version__}, torch {torch.__version__}',
    }
    metric = runner.test_loop.evaluator.metrics[0]
    print(metric.write(folder, f'Test of {Path(runner.work_dir).name}', context, dataset))
    print(f'report and pictures: {folder}')


def _crop(model: StagedModel) -> dict[str, str]:
    """Say where an enhancer was applied: labels seen at test time must not go unmentioned."""
    if not isinstance(model, TipDetector) or model.enhancer is None:
        return {}
    notes = dict(none='whole image', proposed='crops at proposed tips', oracle=ORACLE_NOTE)
    return {'enhanced': notes[model.enhancer.crop]}
