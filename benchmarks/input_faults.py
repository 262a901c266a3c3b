"""What goes wrong with files, planted on purpose: images, annotations and programs in disguise.

Each experiment gets an empty folder, and returns how many of its cases passed.
"""

import contextlib
import os
import time
from pathlib import Path

import numpy as np
import planted
import tifffile
from planted import SEED, TINY

from pipedet.cli import main as pipedet
from pipedet.datasets import PipetteImages
from pipedet.formats import ImageReadError, read_image
from pipedet.visualization import write_picture


def grey_levels(folder: Path) -> dict:
    """I1: levels of a 12-bit ramp in 16 bits that are still apart after reading."""
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    write_picture(folder / 'ramp.png', ramp)
    tifffile.imwrite(folder / 'ramp.tif', ramp)
    tifffile.imwrite(folder / 'packed.tif', ramp, compression='zlib')
    tifffile.imwrite(folder / 'stack.ome.tif', np.stack([0 * ramp, ramp]))
    files = (('ramp.png', None), ('ramp.tif', None), ('packed.tif', None), ('stack.ome.tif', 1))
    kept = [len(np.unique(read_image(folder / name, frame))) for name, frame in files]
    return dict(passed=min(kept), of=4096)


def huge_image(folder: Path) -> dict:
    """I4: a PNG of 0.1 MB and 900 megapixels: refused by its header, within 50 ms."""
    path = folder / 'huge.png'
    planted.huge_png(path)
    started = time.perf_counter()
    try:
        read_image(path)
        refused = False
    except ImageReadError:
        refused = True
    ms = 1e3 * (time.perf_counter() - started)
    return dict(passed=int(refused and ms < 50), of=1, ms=round(ms, 1))


def corrupt_files(folder: Path, count: int = 200) -> dict:
    """I3: damaged images of every format: each is one `ImageReadError`, soon."""
    silent, crashed, slowest = 0, 0, 0.0
    for path in planted.corrupt_images(folder, count, SEED):
        started = time.perf_counter()
        try:
            read_image(path)
            silent += 1
        except ImageReadError:
            pass
        except Exception:
            crashed += 1
        slowest = max(slowest, time.perf_counter() - started)
    found = dict(silent=silent, crashed=crashed, slowest_s=round(slowest, 3))
    return dict(passed=count - silent - crashed, of=count, **found)


def annotation_faults(folder: Path) -> dict:
    """I5: planted faults of annotations: found when the dataset is built, and named."""
    missed = []
    cases = planted.annotation_faults()
    for number, (name, plant) in enumerate(cases.items()):
        own = folder / str(number)
        own.mkdir()
        annotations, expected, options = plant(own)
        try:
            PipetteImages(
                root=own, annotations=annotations, pipeline=[], seed=0, subset='rig', strict=True,
                **options,
            )  # fmt: skip
            missed.append(name)
        except ValueError as error:
            if expected not in str(error):
                missed.append(f'{name}: {error}')
    return dict(passed=len(cases) - len(missed), of=len(cases), missed=missed)


def malicious_files(folder: Path) -> dict:
    """S2: files that run code or read elsewhere, given to test, latency and predict."""
    ran = []
    cases = planted.malicious_files(folder, TINY)
    for name, (arguments, trap) in cases.items():
        refused = False
        with open(os.devnull, 'w', encoding='utf-8') as sink, contextlib.redirect_stdout(sink):
            try:
                pipedet(arguments)
            except SystemExit as stop:
                refused = bool(stop.code)
        if trap.exists() or not refused:
            ran.append(name)
    return dict(passed=len(cases) - len(ran), of=len(cases), ran=ran)
