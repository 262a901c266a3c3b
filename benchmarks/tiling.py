"""Tiles against the whole image: how far apart they are, and what memory large images take.

    python benchmarks/tiling.py work_dirs/runet_small

Writes results/tiling.json and the table in README.md. Memory is that of a process of its own for
each size, less what it needs for input and output.
"""

import argparse
import datetime
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from tables import rewrite
from torch import nn

from pipedet.commands.common import device_name
from pipedet.datasets import ScenePairs, ToUnit
from pipedet.engine.checkpoint import load_part
from pipedet.models.tiling import tiled
from pipedet.registry import MODELS

HERE = Path(__file__).parent
SIZES = (512, 1024, 2048, 4096)
BORDER = 128  # pixels that do not count: there the whole image sees a border and its tiles too


def mosaic(side: int) -> torch.Tensor:
    """Return an image of scenes side by side, (1, 1, side, side) in [0, 1]."""
    scenes = ScenePairs(recipes=dict(standard=1.0), length=16, pipeline=[dict(type=ToUnit)], seed=3)
    tiles = [scenes[i]['image'] for i in range(16)]
    count = side // 256
    rows = [np.hstack([tiles[(r + 5 * c) % 16] for c in range(count)]) for r in range(count)]
    return torch.from_numpy(np.vstack(rows).astype(np.float32))[None, None]


def load(run: Path) -> nn.Module:
    """Return the generator of a run folder."""
    generator = MODELS.build(Config.fromfile(run / 'config.py').model.generator)
    load_part(run / 'model.safetensors', 'generator', generator)
    return generator.eval().requires_grad_(False)


def compare(generator: nn.Module) -> dict[str, float]:
    """Return the largest difference on 1024x1024 pixels, and how much of it lies along seams."""
    image = mosaic(1024)
    whole, parts = generator(image), tiled(generator, image)
    far = (0, 0, slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    apart = (whole - parts)[far].abs()
    # A seam would be a step between neighbouring rows or columns that the whole image has not.
    steps = [(whole - parts)[far].diff(dim=axis).abs().max().item() for axis in (0, 1)]
    return dict(largest=apart.max().item(), mean=apart.mean().item(), largest_step=max(steps))


def one_size(run: Path, side: int) -> None:
    """Print peak memory beside input and output, in MB, and seconds."""
    generator, image = load(run), torch.rand(1, 1, side, side)
    tiled(generator, image[..., :512, :512])  # what the libraries keep for themselves
    started = time.perf_counter()
    out = tiled(generator, image)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    own = (image.nbytes + out.nbytes) / 2**20
    print(json.dumps(dict(side=side, peak_mb=round(peak - own), seconds=round(seconds, 2))))


def main(runs: list[Path]) -> None:
    """Measure every run and write the results."""
    result = dict(
        device=device_name('cpu'),
        date=datetime.date.today().isoformat(),
        torch=torch.__version__,
        border=BORDER,
        enhancers={},
    )
    for run in runs:
        command = [sys.executable, __file__, str(run), '--side']
        sizes = [
            json.loads(subprocess.check_output([*command, str(side)]).splitlines()[-1])
            for side in SIZES
        ]
        result['enhancers'][run.name] = dict(compare(load(run)), sizes=sizes)
    (HERE / 'results' / 'tiling.json').write_text(
        json.dumps(result, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'tiling', table(result))


def table(result: dict) -> str:
    """Return the table in Markdown."""
    lines = [
        f'{result["device"]}; {result["date"]}; torch {result["torch"]}; grey levels in [0, 1].\n',
        '| enhancer | largest difference | mean | largest step along a seam | peak MB (s) at '
        + ' | '.join(map(str, SIZES))
        + ' |',
        '|---|---|---|---' + '|---' * len(SIZES) + '|',
    ]
    for name, own in result['enhancers'].items():
        cells = [f'{own[key]:.1e}' for key in ('largest', 'mean', 'largest_step')]
        cells += [f'{size["peak_mb"]} ({size["seconds"]})' for size in own['sizes']]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='run folders of enhancers')
    parser.add_argument('--side', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        one_size(args.runs[0], args.side)
    else:
        main(args.runs)
