"""What goes wrong on a rig, planted on purpose: how often training and inputs come through.

    python benchmarks/reliability.py

Each experiment returns how many of its cases passed; results/reliability.json keeps them.
"""

import argparse
import contextlib
import datetime
import hashlib
import json
import math
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import planted
import tifffile
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tables import rewrite

from pipedet.cli import main as pipedet
from pipedet.commands.common import build_runner, device_name
from pipedet.datasets import PackTips, PipetteImages, RandomTurn, SyntheticPipettes, Warp
from pipedet.engine import SaveCheckpoint
from pipedet.engine.checkpoint import (
    DamagedFileError,
    checkpoints,
    load_newest,
    load_weights,
    save_checkpoint,
    save_weights,
    sweep,
)
from pipedet.formats import ImageReadError, read_image

HERE = Path(__file__).parent
RESULTS = HERE / 'results' / 'reliability.json'
TINY = HERE.parent / 'configs' / '_base_' / 'tiny.py'
WORKERS = ((0, False), (2, False), (2, True))  # number, whether they stay
SEED = 0


def tiny_runner(folder: Path, workers: int = 0, stay: bool = False, resume: bool = False) -> Runner:
    """Return a runner of two epochs of four iterations."""
    config = Config.fromfile(TINY)
    config.work_dir, config.resume = str(folder), resume
    config.train_dataloader.update(num_workers=workers, persistent_workers=stay)
    return build_runner(config)


class At(Hook):
    """Do something once so many iterations are done."""

    priority = 'LOW'  # before SaveCheckpoint

    def __init__(self, iteration: int, act: Callable[[], object]) -> None:
        self.iteration, self.act = iteration, act

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        """Act when the time has come."""
        if runner.iter + 1 == self.iteration:
            self.act()


def digest(runner: Runner) -> str:
    """Return the SHA-256 of all weights."""
    state = runner.model.state_dict()
    values = b''.join(value.contiguous().numpy().tobytes() for value in state.values())
    return hashlib.sha256(values).hexdigest()


def resume(folder: Path) -> dict:
    """R1, R7, R8: stop by SIGTERM at an epoch's end and in its middle, go on, compare weights."""
    unbroken = tiny_runner(folder / 'unbroken')
    unbroken.train()
    passed = 0
    for number, (workers, stay) in enumerate(WORKERS):
        for stop_at in (4, 6):
            own = folder / f'{number}_{stop_at}'
            broken = tiny_runner(own, workers, stay)
            broken.register_hook(At(stop_at, lambda: signal.raise_signal(signal.SIGTERM)))
            with contextlib.suppress(SystemExit):
                broken.train()
            again = tiny_runner(own, workers, stay, resume=True)
            again.train()
            passed += broken.iter == stop_at and digest(again) == digest(unbroken)
    return dict(
        passed=passed, of=2 * len(WORKERS), cases='workers 0, 2, 2 that stay x epoch end, middle'
    )


def fresh_draws(folder: Path, length: int = 64, epochs: int = 3) -> dict:
    """R3: images of one index that are equal in two epochs; every turn and scene is drawn anew."""
    repeats = pairs = 0
    pipeline = [dict(type=RandomTurn), dict(type=Warp), dict(type=PackTips)]
    for workers, stay in WORKERS:
        loader = Runner.build_dataloader(
            dict(
                batch_size=8, num_workers=workers, persistent_workers=stay,
                sampler=dict(type='pipedet.datasets.EpochSampler', shuffle=False),
                dataset=dict(
                    type=SyntheticPipettes, recipes=dict(training=1.0), length=length, seed=5,
                    pipeline=pipeline,
                ),
            ),
            seed=SEED,
        )  # fmt: skip
        seen = []
        for epoch in range(epochs):
            loader.dataset.set_epoch(epoch)
            loader.sampler.set_epoch(epoch)
            seen.append([hash(x.numpy().tobytes()) for batch in loader for x in batch['inputs']])
        for first in range(epochs):
            for second in range(first + 1, epochs):
                repeats += sum(a == b for a, b in zip(seen[first], seen[second], strict=True))
                pairs += length
    return dict(passed=pairs - repeats, of=pairs, repeated=repeats)


def killed_saves(folder: Path, count: int = 50) -> dict:
    """R4: kill -9 at a random moment of saving; the newest whole checkpoint is at most one back."""
    rng = np.random.default_rng(SEED)
    passed = 0
    for attempt in range(count):
        own = folder / str(attempt)
        own.mkdir()
        done, tell = os.pipe()
        child = os.fork()
        if child == 0:
            for n in range(1, 10_000):
                save_checkpoint(own / f'iter_{n}.pth', dict(n=n, value=torch.full((200_000,), n)))
                os.write(tell, b'.')
                for old in checkpoints(own)[2:]:
                    old.unlink()
        os.close(tell)
        time.sleep(rng.uniform(0.05, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        saved = len(os.read(done, 10_000))
        os.close(done)
        sweep(own)
        newest = load_newest(own, lambda text: None)
        at = newest[1]['n'] if newest else 0
        whole = newest is None or bool((newest[1]['value'] == at).all())
        passed += whole and at >= saved and not list(own.glob('*.part'))
    return dict(passed=passed, of=count, lost='at most the save that was killed')


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Let no file grow beyond 100 kB, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Let no file be made in a folder, the logs below it excepted; root could, so be nobody."""
    user = os.geteuid()
    for path in folder.rglob('*'):
        path.chmod(0o777)
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


def _enter(stack: contextlib.ExitStack, context: Callable) -> None:
    stack.enter_context(context())


def bad_disks(folder: Path) -> dict:
    """R5: the second save meets a full disk, a read-only folder, or is cut short afterwards."""
    passed = 0
    for name in ('full', 'read-only', 'truncated'):
        own = folder / name
        runner = tiny_runner(own)
        stack = contextlib.ExitStack()
        contexts = {'full': _full_disk, 'read-only': lambda own=own: _read_only(own)}
        if name in contexts:
            enter = contexts[name]
            runner.register_hook(
                At(8, lambda stack=stack, enter=enter: stack.enter_context(enter()))
            )
        with stack:
            runner.train()
        hook = next(hook for hook in runner.hooks if isinstance(hook, SaveCheckpoint))
        told = 'iter_8.pth' in ''.join(hook.failures)
        if name == 'truncated':
            path = own / 'iter_8.pth'
            path.write_bytes(path.read_bytes()[:-1000])
            warned: list[str] = []
            told = load_newest(own, warned.append) is not None and 'iter_8.pth' in warned[0]
        parts = list(own.glob('*.part'))
        again = tiny_runner(own, resume=True)
        again.train()
        passed += told and not parts and digest(again) == digest(runner)
    return dict(passed=passed, of=3, cases='full disk (a file size limit), read-only, truncated')


def not_finite(folder: Path) -> dict:
    """R6: loss or gradient is NaN in the third iteration: that one is the last, none is saved."""
    passed = 0
    for name in ('loss', 'gradient'):
        runner = tiny_runner(folder / name)
        weight = runner.model.coarse.predict_logit.weight

        def poison(name: str = name, weight: torch.nn.Parameter = weight) -> None:
            if name == 'loss':
                weight.data.fill_(math.nan)
            else:
                weight.register_hook(lambda gradient: gradient * math.nan)

        runner.register_hook(At(2, poison))
        try:
            runner.train()
        except FloatingPointError as error:
            passed += (
                runner.iter == 2 and 'synthetic/' in str(error) and not checkpoints(folder / name)
            )
    return dict(passed=passed, of=2, cases='loss, gradient')


def grey_levels(folder: Path) -> dict:
    """I1: levels of a 12-bit ramp in 16 bits that are still apart after reading."""
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    cv2.imwrite(str(folder / 'ramp.png'), ramp)
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
        with open(os.devnull, 'w') as sink, contextlib.redirect_stdout(sink):
            try:
                pipedet(arguments)
            except SystemExit as stop:
                refused = bool(stop.code)
        if trap.exists() or not refused:
            ran.append(name)
    return dict(passed=len(cases) - len(ran), of=len(cases), ran=ran)


def flipped_weights(folder: Path, count: int = 200) -> dict:
    """S1: one flipped bit anywhere in a weights file."""
    rng = np.random.default_rng(SEED)
    model = tiny_runner(folder).model
    path = folder / 'model.safetensors'
    save_weights(path, model)
    whole = path.read_bytes()
    refused = 0
    for _ in range(count):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            load_weights(path, model)
        except DamagedFileError:
            refused += 1
    return dict(passed=refused, of=count)


EXPERIMENTS = (
    resume, fresh_draws, killed_saves, bad_disks, not_finite, grey_levels, huge_image,
    corrupt_files, annotation_faults, malicious_files, flipped_weights,
)  # fmt: skip


def table(results: dict[str, dict]) -> str:
    """Return a row an experiment, its docstring saying what it plants."""
    rows = ['| experiment | passed | what is planted, and what has to happen |', '|---|---|---|']
    for experiment in EXPERIMENTS:
        result, text = results[experiment.__name__], experiment.__doc__.partition(': ')[2]
        rows.append(f'| `{experiment.__name__}` | {result["passed"]} of {result["of"]} | {text} |')
    return '\n'.join(rows)


def main() -> None:
    """Run all, print a line each, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--only', choices=[f.__name__ for f in EXPERIMENTS], help='print just this one'
    )
    only = parser.parse_args().only
    results = {}
    for experiment in EXPERIMENTS:
        if only in (None, experiment.__name__):
            with tempfile.TemporaryDirectory() as folder:
                own = Path(folder) / 'rig'
                own.mkdir()
                Path(folder).chmod(0o755)
                results[experiment.__name__] = result = experiment(own)
            print(f'{experiment.__name__}: {result}', flush=True)
    if only is None:
        about = dict(device=device_name('cpu'), seed=SEED, date=datetime.date.today().isoformat())
        RESULTS.write_text(json.dumps(about | dict(experiments=results), indent=1) + '\n')
        rewrite(HERE / 'README.md', 'reliability', table(results))


if __name__ == '__main__':
    main()
