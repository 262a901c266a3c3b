"""Locate the tips in images, folders or TIFF stacks: a row a tip, a row a frame, and pictures."""

import argparse
import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from pipedet.commands.common import add_model_arguments, localiser_of
from pipedet.formats import ImageReadError, read_pixel_size_um
from pipedet.formats.scale import contradicts
from pipedet.formats.schema import check_pixel_size
from pipedet.formats.sources import Frame, find_frames, find_images
from pipedet.runtime.tips import Tips
from pipedet.visualization import draw_tips, write_picture

COLUMNS = (
    *('image', 'frame', 'tip', 'x_px', 'y_px', 'x_um', 'y_um', 'score'),
    *('sd_x_px', 'sd_y_px', 'correlation', 'direction_deg', 'z_um', 'kind'),
)

# Of every frame, answered or not; `note` says why there is no answer.
FRAME_COLUMNS = (
    *('image', 'frame', 'channel', 'tips', 'confidence', 'pixel_size_x_um', 'pixel_size_y_um'),
    *('dead_lines', 'note'),
)

TIPS, FRAMES, PICTURES = 'predictions.csv', 'frames.csv', 'overlays'  # in the folder of results
_LIKELY = 0.5
_SHOWN = 10  # lines of one kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, help='an image, a TIFF stack, or a folder of them')
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    add_model_arguments(parser)
    parser.add_argument(
        '--min-confidence', type=float, help='give no answer of which the model is less sure'
    )
    parser.add_argument(
        '--pixel-size-um', type=float, help='size of a pixel; goes before what the files say'
    )
    parser.add_argument(
        '--channel', type=int, help='of images with several the one to search, from 1 [all]'
    )
    parser.add_argument('--strict', action='store_true', help='stop at a bad file, do not skip it')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace what an earlier run left in --out'
    )


def run(args: argparse.Namespace) -> None:
    """Predict every image of the source; exit with 1 if any could not be read."""
    if args.pixel_size_um is not None:
        check_pixel_size(args.pixel_size_um, '--pixel-size-um')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    localise = localiser_of(args, device, args.min_confidence)
    paths = find_images(args.source)
    _make_room(args.out, args.overwrite)
    frames = []
    read_size = lru_cache(maxsize=1)(read_pixel_size_um)  # of a stack once
    # Written as they come: what stops the work halfway loses nothing of the other half.
    with (
        _table(args.out / TIPS, COLUMNS) as tip_table,
        _table(args.out / FRAMES, FRAME_COLUMNS) as frame_table,
    ):
        for frame in find_frames(paths, args.channel):
            path, number = frame.path, frame.number
            try:
                given = args.pixel_size_um
                image = frame.read()
                size = read_size(path) if given is None else (given, given)
                tips = localise(image, size)
                picture = args.out / PICTURES / _picture_name(path, number)
                write_picture(picture, _overlay(image, tips))
                tip_table.writerows(_rows(path.name, number, tips))
                frames.append(_frame(frame, size, tips))
            except ValueError as error:  # an ImageReadError is one
                if args.strict:
                    raise
                fault = f'{path}: {error}' if str(path) not in str(error) else str(error)
                frames.append(dict(image=path.name, frame=number, note=fault))
            frame_table.writerow(frames[-1])
    _tell(args.out, frames)
    if args.pixel_size_um is not None:
        _tell_contradictions(paths, args.pixel_size_um)
    if any('tips' not in frame for frame in frames):
        sys.exit(1)


def _make_room(out: Path, overwrite: bool) -> None:
    """Make the folder of results; pictures of an earlier run would pass for this one's."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / TIPS).exists():
        return
    if not overwrite:
        raise FileExistsError(
            f'{out} holds the results of an earlier run: give another --out, or --overwrite'
        )
    for table in (out / TIPS, out / FRAMES):
        with _told_if_held(table):
            table.open('ab').close()
    for picture in (out / PICTURES).glob('*.png'):
        with _told_if_held(picture):
            picture.unlink()


@contextmanager
def _told_if_held(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise PermissionError(f'{path} cannot be replaced: is it open elsewhere?') from error


@contextmanager
def _table(path: Path, columns: tuple[str, ...]) -> Iterator[csv.DictWriter]:
    """Open a CSV file with its header written."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        yield writer


def _tell(out: Path, frames: list[dict]) -> None:
    """Print what came of it."""
    read = [frame for frame in frames if 'tips' in frame]
    tips = sum(frame['tips'] for frame in read)
    print(f'{tips} tips in {len(read)} images -> {out / TIPS}')
    abstained = [f'{f["image"]}, frame {f["frame"]}: {f["note"]}' for f in read if f['note']]
    if abstained:
        print(f'no answer for {len(abstained)} images:', *_first(abstained), sep='\n  ')
    doubtful = sum(float(f.get('confidence', 1)) < _LIKELY for f in read if not f['note'])
    if doubtful:
        print(f'{doubtful} answers are more likely incomplete or wrong than right (confidence in '
              f'frames.csv below {_LIKELY}): look at their pictures')  # fmt: skip
    without_scale = [frame['image'] for frame in read if 'pixel_size_x_um' not in frame]
    if without_scale:
        print(f'{len(without_scale)} images carry no pixel size (--pixel-size-um gives it): their '
              'tips are in pixels only, and found less well where a field is not some 200 um wide:',
              *_first(list(dict.fromkeys(without_scale))), sep='\n  ')  # fmt: skip
    shown = {}
    for frame in read:
        shown.setdefault(frame['image'], set()).add(frame.get('channel'))
    mixed = [name for name, channels in shown.items() if len(channels - {None}) > 1]
    if mixed:
        print(f'{len(mixed)} files hold several channels, and every one was searched (which, is in '
              f'{FRAMES}): --channel 2, say, keeps to the one that shows the pipettes:',
              *_first(mixed), sep='\n  ')  # fmt: skip
    skipped = [f'frame {f["frame"]} of {f["note"]}' for f in frames if 'tips' not in f]
    if skipped:
        print('skipped:', *_first(skipped), sep='\n  ', file=sys.stderr)


def _tell_contradictions(paths: list[Path], given: float) -> None:
    """Print which files say another size of a pixel than was given."""
    others = []
    for path in paths:
        with suppress(ImageReadError):  # which was told before
            others += [path.name] if contradicts(path, (given, given)) else []
    if others:
        print(f'{len(others)} files say another pixel size than the --pixel-size-um {given:g} that '
              'was used; is it theirs?', *_first(others), sep='\n  ')  # fmt: skip


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f'and {more} more, see {FRAMES}']


def _frame(frame: Frame, size: tuple[float, float] | None, tips: Tips) -> dict:
    row = dict(image=frame.path.name, frame=frame.number, tips=len(tips.scores))
    row |= dict(note=tips.abstained or '', dead_lines=tips.dead_lines)
    if frame.channel is not None:
        row |= dict(channel=frame.channel)
    if tips.confidence is not None:
        row |= dict(confidence=f'{tips.confidence:.3f}')
    if size is not None:
        row |= dict(pixel_size_x_um=f'{size[0]:.4f}', pixel_size_y_um=f'{size[1]:.4f}')
    return row


def _rows(name: str, frame: int, tips: Tips) -> list[dict]:
    rows = []
    for i, ((x, y), score) in enumerate(zip(tips.points_px, tips.scores, strict=True)):
        row = dict(image=name, frame=frame, tip=i, x_px=f'{x:.2f}', y_px=f'{y:.2f}')
        if tips.points_um is not None:
            row |= dict(x_um=f'{tips.points_um[i, 0]:.2f}', y_um=f'{tips.points_um[i, 1]:.2f}')
        rows.append(row | dict(score=f'{score:.3f}') | _more(tips, i))
    return rows


def _more(tips: Tips, i: int) -> dict:
    """Return what a model may know of tip `i` beside its place."""
    row = {}
    if tips.covariance_px is not None:
        sd = np.sqrt(np.diagonal(tips.covariance_px[i]))
        correlation = tips.covariance_px[i, 0, 1] / sd.prod()
        row |= dict(sd_x_px=f'{sd[0]:.2f}', sd_y_px=f'{sd[1]:.2f}')
        row |= dict(correlation=f'{correlation:.2f}')
    if tips.direction is not None:
        x, y = tips.direction[i]
        row |= dict(direction_deg=f'{np.degrees(np.arctan2(y, x)):.1f}')
    if tips.z_um is not None:
        row |= dict(z_um=f'{tips.z_um[i]:.1f}')
    if tips.kind is not None:
        row |= dict(kind=int(tips.kind[i]))
    return row


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
        caption=tips.abstained or _caption(tips),
        zoom=min(8, max(1, round(480 / min(image.shape)))),  # small frames are enlarged
    )


def _caption(tips: Tips) -> str:
    doubtful = tips.confidence is not None and tips.confidence < _LIKELY
    return f'tips: {len(tips.scores)}' + (', perhaps not all' if doubtful else '')
