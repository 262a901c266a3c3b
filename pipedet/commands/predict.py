"""Locate the tips in images, folders or TIFF stacks: a CSV with one row a tip, and pictures."""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pipedet.apis import TipLocaliser, Tips
from pipedet.formats import (
    IMAGE_SUFFIXES,
    ImageReadError,
    count_frames,
    read_image,
    read_pixel_size_um,
)
from pipedet.visualization import draw_tips, write_picture

COLUMNS = ('image', 'frame', 'tip', 'x_px', 'y_px', 'x_um', 'y_um', 'score')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, help='an image, a TIFF stack, or a folder of them')
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    run = Path('work_dirs/quickstart')
    parser.add_argument('--config', type=Path, default=run / 'config.py', help='[%(default)s]')
    parser.add_argument(
        '--checkpoint', type=Path, default=run / 'model.safetensors', help='[%(default)s]'
    )
    parser.add_argument(
        '--pixel-size-um', type=float, help='size of a pixel; goes before what the files say'
    )
    parser.add_argument('--strict', action='store_true', help='stop at a bad file, do not skip it')


def run(args: argparse.Namespace) -> None:
    """Predict every image of the source; exit with 1 if any could not be read."""
    if not args.config.is_file():
        raise FileNotFoundError(
            f'no config at {args.config}: run `pipedet train configs/quickstart.py` first, or give '
            '--config and --checkpoint'
        )
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    localise = TipLocaliser(args.config, args.checkpoint, device)
    args.out.mkdir(parents=True, exist_ok=True)
    rows, skipped, without_scale, images = [], [], 0, 0
    for path in find_images(args.source):
        try:
            size = _pixel_size(path, args.pixel_size_um)
            for frame, image in read_frames(path):
                tips = localise(image, size)
                rows += _rows(path.name, frame, tips)
                write_picture(
                    args.out / 'overlays' / _picture_name(path, frame), _overlay(image, tips)
                )
                images += 1
                without_scale += size is None
        except (ImageReadError, ValueError) as error:
            if args.strict:
                raise
            skipped.append(f'{path}: {error}' if str(path) not in str(error) else str(error))
    with open(args.out / 'predictions.csv', 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f'{len(rows)} tips in {images} images -> {args.out / "predictions.csv"}')
    if without_scale:
        print(f'{without_scale} images carry no pixel size: their tips are in pixels only '
              '(--pixel-size-um gives it)')  # fmt: skip
    if skipped:
        print('skipped:', *skipped, sep='\n  ', file=sys.stderr)
        sys.exit(1)


def find_images(source: Path) -> list[Path]:
    """Return the file itself, or the images of a folder in the order of their names."""
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise FileNotFoundError(
                f'no image in {source} (looked for {", ".join(IMAGE_SUFFIXES)})'
            )
        return found
    if not source.exists():
        raise FileNotFoundError(f'no such file or folder: {source}')
    return [source]


def read_frames(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Read every frame of a file in turn."""
    for frame in range(count_frames(path)):
        yield frame, read_image(path, frame=frame)


def _pixel_size(path: Path, given: float | None) -> tuple[float, float] | None:
    return read_pixel_size_um(path) if given is None else (given, given)


def _rows(name: str, frame: int, tips: Tips) -> list[dict]:
    rows = []
    for i, ((x, y), score) in enumerate(zip(tips.points_px, tips.scores, strict=True)):
        row = dict(image=name, frame=frame, tip=i, x_px=f'{x:.2f}', y_px=f'{y:.2f}')
        if tips.points_um is not None:
            row |= dict(x_um=f'{tips.points_um[i, 0]:.2f}', y_um=f'{tips.points_um[i, 1]:.2f}')
        rows.append(row | dict(score=f'{score:.3f}'))
    return rows


def _picture_name(path: Path, frame: int) -> str:
    # With the suffix: a.png and a.tif may lie in one folder.
    return f'{path.name}_{frame:04d}.png'


def _overlay(image: np.ndarray, tips: Tips) -> np.ndarray:
    return draw_tips(
        image,
        true=np.empty((0, 2)),
        predicted=tips.points_px,
        scores=tips.scores,
        threshold=0.0,
        caption=f'{len(tips.scores)} tips',
        zoom=min(8, max(1, round(480 / min(image.shape)))),  # small frames are enlarged
    )
