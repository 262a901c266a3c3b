"""Write a contact sheet of a config's data, the tips drawn on every other picture."""

import argparse
from pathlib import Path

import numpy as np

from pipedet.commands.common import add_config_arguments, load_config
from pipedet.datasets import DatasetError
from pipedet.registry import DATASETS
from pipedet.visualization import contact_sheet, draw_tips, write_picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--count', type=int, default=12, help='pictures [%(default)s]')
    parser.add_argument('--out', type=Path, help='PNG file [RUN FOLDER/browse_SPLIT.png]')


def run(args: argparse.Namespace) -> None:
    """Draw samples spread evenly over the dataset."""
    config = load_config(args)
    dataset = DATASETS.build(config[f'{args.split}_dataloader'].dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(args.count, len(dataset))).round().astype(int)
    samples = [dataset[int(i)] for i in chosen]
    for sample in samples:
        if sample['inputs'] is None:
            print(f'left out: {sample["data_samples"].fault}')
    readable = [sample for sample in samples if sample['inputs'] is not None]
    if not readable:
        raise DatasetError(f'none of the {len(samples)} images chosen can be read')
    tiles = [_draw(sample, marked=bool(n % 2)) for n, sample in enumerate(readable)]
    out = args.out or Path(config.work_dir) / f'browse_{args.split}.png'
    write_picture(out, contact_sheet(tiles, columns=4))
    print(f'{len(tiles)} of {dataset.describe()} -> {out}')


def _draw(sample: dict, marked: bool) -> np.ndarray:
    """Draw one; unmarked ones show what a detector has to go by."""
    tips = sample['data_samples'].gt_tips.points.numpy()
    return draw_tips(
        sample['inputs'][0].numpy(),
        true=tips if marked else tips[:0],
        predicted=tips[:0],
        scores=tips[:0, 0],
        threshold=1.0,
        caption=f'{sample["data_samples"].source}, {len(tips)} tips',
        zoom=1,
    )
