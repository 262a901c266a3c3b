"""What goes wrong in training, planted on purpose: stops, kills, full disks, NaN, damaged weights.

Each experiment gets an empty folder, and returns how many of its cases passed.
"""

import contextlib
import hashlib
import math
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from planted import SEED, TINY

from pipedet.commands.common import build_runner
from pipedet.datasets import PackTips, RandomTurn, SyntheticPipettes, Warp
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

WORKERS = ((0, False), (2, False), (2, True))  # number, whether they stay


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
