"""How long a step of training takes by all threads together, and dealt out to them.

    python benchmarks/threads.py

Forward and backward pass of a batch of scenes; both ways take turns, so that what else the machine
does meets both alike. Writes results/threads.json and the table between the marks in README.md.
"""

import argparse
import datetime
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from tables import rewrite

from pipedet.commands.common import build_runner, device_name

HERE = Path(__file__).parent
CONFIGS = HERE.parent / 'configs'
MODELS = ('quickstart', 'tipnet_s')


def main(steps: int) -> None:
    """Measure and write."""
    found = dict(
        device=device_name('cpu'),
        steps=steps,
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
        models={name: measure(name, steps) for name in MODELS},
    )
    (HERE / 'results' / 'threads.json').write_text(json.dumps(found, indent=1) + '\n')
    table = to_markdown(found)
    rewrite(HERE / 'README.md', 'threads', table)
    print(table)


def measure(name: str, steps: int) -> dict:
    """Return the median milliseconds of both ways."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.train_dataloader.dataset.length = config.train_dataloader.batch_size
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder
        runner = build_runner(config)
        loop = runner.train_loop
    dealt = loop.gradients
    if dealt is None:
        raise RuntimeError('one thread: there is nothing to deal out')
    model = runner.model.train()
    dealt.renew()
    batch = next(iter(loop.dataloader))
    ways = dict(together=partial(together, model), dealt=dealt)
    times = {way: [] for way in ways}
    for _ in range(3 + steps):
        for way, step in ways.items():
            started = time.perf_counter()
            step(batch)
            times[way].append(1e3 * (time.perf_counter() - started))
            model.zero_grad()
    medians = {f'{way}_ms': float(np.median(own[3:])) for way, own in times.items()}
    return dict(batch=loop.dataloader.batch_size, threads=dealt.threads, **medians)


def together(model: torch.nn.Module, batch: dict) -> None:
    """Forward and backward pass, as a step without `per_thread` does."""
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    sum(losses.values()).backward()


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'{found["device"]}; median of {found["steps"]} steps; {found["date"]}.',
        '',
        '| model | batch | together, ms | dealt out, ms | ratio |',
        '|---|---|---|---|---|',
    ]
    for name, own in found['models'].items():
        a, b = own['together_ms'], own['dealt_ms']
        lines.append(f'| {name} | {own["batch"]} | {a:.0f} | {b:.0f} | {b / a:.2f} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--steps', type=int, default=40)
    main(parser.parse_args().steps)
