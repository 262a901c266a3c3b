"""Test weights: tables by protocol, set, CNR band and number of pipettes, and pictures."""

import argparse
import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process

from pipedet import __version__
from pipedet.commands.common import add_config_arguments, build_runner, device_name, load_config
from pipedet.engine import TipRunner
from pipedet.engine.checkpoint import load_weights
from pipedet.evaluation import TipRecord, known_count, write_report
from pipedet.models.detectors import unwrap
from pipedet.structures import apply_affine
from pipedet.visualization import contact_sheet, draw_tips, write_png

PICTURES = 6  # best and worst, each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument('--checkpoint', type=Path, help='weights [model.safetensors of the run]')
    parser.add_argument(
        '--data', type=Path, help='folder to test on instead, images in it or in its images/'
    )
    parser.add_argument(
        '--annotations', default='annotations.json', help='COCO or CSV file in --data [%(default)s]'
    )
    parser.add_argument('--pixel-size-um', type=float, help='of the images in --data')
    parser.add_argument('--strict', action='store_true', help='stop at bad files, do not skip them')
    parser.add_argument('--out', type=Path, help='folder of the report [RUN FOLDER/test]')


def run(args: argparse.Namespace) -> None:
    """Test and write the report."""
    config = load_config(args)
    if args.data is not None:
        config.test_dataloader.dataset = dict(
            type='pipedet.PipetteImages',
            root=str(args.data),
            annotations=args.annotations,
            image_folder='images' if (args.data / 'images').is_dir() else '',
            subset=args.data.resolve().name,
            pipeline=config.predict_pipeline,
            seed=0,
            pixel_size_um=args.pixel_size_um,
            strict=args.strict,
        )
    runner = build_runner(config)
    folder = Path(config.work_dir)
    checkpoint = args.checkpoint or folder / 'model.safetensors'
    load_weights(checkpoint, unwrap(runner.model))
    name = 'test' if args.data is None else f'test_{args.data.resolve().name}'
    run_test(runner, args.out or folder / name, {'weights': checkpoint.name})


def run_test(runner: TipRunner, folder: Path, context: dict[str, Any]) -> None:
    """Test the runner's model on its test set and leave report and pictures in `folder`."""
    dataset = runner.test_loop.dataloader.dataset
    runner.logger.info(f'test data: {dataset.describe()}')
    runner.test()
    if not is_main_process():
        return
    records = runner.test_loop.evaluator.metrics[0].records
    context = {
        'config': Path(runner.cfg.filename).name,
        **context,
        'data': dataset.describe(),
        'device': device_name(next(runner.model.parameters()).device),
        'seed': runner.seed,
        'date': datetime.date.today().isoformat(),
        'versions': f'pipedet {__version__}, torch {torch.__version__}',
    }
    report = write_report(records, folder, f'Test of {Path(runner.work_dir).name}', context)
    print(report)
    for record in records:
        if record.failed:
            print(f'not read, its tips counted as missed: {record.source}, frame {record.frame}')
    for subset in sorted({record.subset for record in records}):
        _draw_best_and_worst(dataset, records, subset, folder)
    print(f'report and pictures: {folder}')


def _draw_best_and_worst(dataset, records: list[TipRecord], subset: str, folder: Path) -> None:
    """Draw the images of a subset whose worst tip is nearest to the truth and farthest from it."""
    own = [i for i, r in enumerate(records) if r.subset == subset and len(r.true) and not r.failed]
    own.sort(key=lambda i: known_count(records[i]).max())
    for name, chosen in (('best', own[:PICTURES]), ('worst', own[: -PICTURES - 1 : -1])):
        tiles = [_draw(dataset[i], records[i]) for i in chosen]
        if tiles:
            write_png(folder / f'{subset}_{name}.png', contact_sheet(tiles, columns=3))


def _draw(sample: dict, record: TipRecord) -> np.ndarray:
    matrix = sample['data_samples'].matrix
    known = record.scores.argsort()[::-1][: max(len(record.true), 1)]
    shown = sorted({*known, *np.flatnonzero(record.scores >= record.score_threshold)})
    return draw_tips(
        sample['inputs'][0].numpy(),
        true=apply_affine(matrix, record.true),
        predicted=apply_affine(matrix, record.pred[shown]),
        scores=record.scores[shown],
        threshold=record.score_threshold,
        caption=f'{record.source}: worst {known_count(record).max():.1f} {record.unit}',
        zoom=2,
    )
