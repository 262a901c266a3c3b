"""Look for everything that is wrong with labelled images before a training does."""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipedet.datasets import DatasetError, PipetteImages
from pipedet.formats import AnnotationError, ImageReadError
from pipedet.formats.plausibility import find_misreadings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('root', type=Path, help='folder of the dataset')
    parser.add_argument(
        'annotations', nargs='+', help='COCO or CSV files in it; several are splits of the data'
    )
    parser.add_argument(
        '--images', help='folder of the images in root [images where there is one, or root itself]'
    )
    parser.add_argument(
        '--pixel-size-um', type=float, help='size of a pixel; goes before what the files say'
    )


def run(args: argparse.Namespace) -> None:
    """Print what the data are and each fault on a line; fail if there is one."""
    images, faults = 0, []
    sessions: dict[str, set[str]] = {}
    contents: dict[str, set[tuple[str, str]]] = {}
    for name in args.annotations:
        try:
            dataset = PipetteImages(
                root=args.root,
                annotations=name,
                image_folder=args.images,
                # A split need not mention the images of the others.
                unlisted_are_negative=len(args.annotations) == 1,
                pixel_size_um=args.pixel_size_um,
                pipeline=[],
                seed=0,
                subset=name,
            )
        except (DatasetError, AnnotationError) as error:
            faults.append(str(error))
            continue
        images += len(dataset)
        faults += dataset.skipped
        readable = _read_all(dataset, faults)
        faults += [f'{name}: {text}' for text in find_misreadings(_note(readable, name, contents))]
        for record in dataset.records:
            sessions.setdefault(record.session, set()).add(name)
    for session, splits in sessions.items():
        if len(splits) > 1:
            faults.append(f'session {session!r} is in {_both(splits)}; keep it in one')
    for places in contents.values():
        if len(places) > 1:
            faults.append(f'the same pixels: {_both(map(" ".join, places))}; keep one')
    for fault in faults:
        print(f'FAULT {fault}')
    if faults:
        raise DatasetError(f'{len(faults)} faults, beside {images} sound images')
    print(f'no fault in {images} images')


def _read_all(dataset: PipetteImages, faults: list[str]) -> Iterator[dict]:
    for index, record in enumerate(dataset.records):
        results = dataset.load(index, np.random.default_rng(0))
        if isinstance(results['image'], ImageReadError):
            faults.append(f'{record.where}: {results["image"]}')
        else:
            yield results


def _note(
    samples: Iterator[dict], name: str, contents: dict[str, set[tuple[str, str]]]
) -> Iterator[tuple]:
    """Pass on image, tips and scale, and note which image has which content."""
    for results in samples:
        image = np.ascontiguousarray(results['image'])
        digest = hashlib.sha256(f'{image.dtype}{image.shape}'.encode() + image.tobytes())
        place = (name, f'{results["source"]} frame {results["frame"]}')
        contents.setdefault(digest.hexdigest(), set()).add(place)
        yield image, results['tips'], results['pixel_size_um']


def _both(names) -> str:
    return ' and '.join(sorted(names))
