"""How much faster TipNet is than the paper's model without its enhancer, in one run.

    python benchmarks/speed.py

Batch 1, from a 256x256 frame to tips, in torch and exported (`pipedet.runtime`), the model that
ships from larger frames too; the models take turns, so that what else the machine does meets all
alike. Writes results/speed.json and the table between the marks in README.md. Weights are random:
speed does not depend on them.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
from mmengine.config import Config
from mmengine.dataset import Compose
from tables import rewrite

from pipedet.commands.common import device_name
from pipedet.commands.latency import measure
from pipedet.engine.cpu import tune_cpu
from pipedet.models.fusing import fuse
from pipedet.models.tip_detector import build_detector
from pipedet.runtime.export import export
from pipedet.runtime.session import TipSession

HERE = Path(__file__).parent
CONFIGS = HERE.parent / 'configs'
MODELS = ('ours', 'quickstart', 'tipnet_m', 'tipnet_s', 'tipnet_n')
SIDE = 256
EXPORTED = (
    *(('ours', SIDE), ('tipnet_m', SIDE), ('tipnet_s', SIDE), ('tipnet_n', SIDE)),
    *(('tipnet_s', 512), ('tipnet_s', 1024)),
)
SLOW = 'ours'
FASTER = f'times faster than {SLOW}'
PIXEL_SIZE_UM = 0.76  # at which frames keep their pixels


def main(rounds: int, runs: int) -> None:
    """Measure in rounds, and write the median round of each model."""
    tune_cpu()
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            f'{name}, exported' + (f', {side}x{side}' if side != SIDE else ''): exported(
                name, Path(folder), side
            )
            for name, side in EXPORTED
        }
        timed = defaultdict(list)
        for _ in range(rounds):
            for name in MODELS:
                timed[name].append(measure(config_of(name), 'cpu', [1], warmup=5, runs=runs))
            for name, session in sessions.items():
                timed[name].append(time_session(session, warmup=5, runs=runs))
    result = {}
    for name, own in timed.items():
        by_p50 = sorted(own, key=lambda one: one['batches'][0]['p50_ms'])
        result[name] = by_p50[len(own) // 2]
    slow = result[SLOW]['batches'][0]['p50_ms']
    for name, own in result.items():
        own['rounds'] = rounds
        if name not in sessions or sessions[name].frame == (SIDE, SIDE):  # of one frame
            own[FASTER] = slow / own['batches'][0]['p50_ms']
    (HERE / 'results' / 'speed.json').write_text(
        json.dumps(result, indent=1) + '\n', encoding='utf-8'
    )
    table = to_markdown(result)
    rewrite(HERE / 'README.md', 'speed', table)
    print(table)


def config_of(name: str) -> Config:
    """Return a config without its enhancer."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.model.enhancer = None
    return config


def exported(name: str, folder: Path, side: int) -> TipSession:
    """Export a model with random weights, for frames of that side."""
    config = config_of(name)
    model = fuse(build_detector(config.model).eval())
    pipeline = Compose(config.predict_pipeline)
    return export(model, pipeline, folder / f'{name}_{side}.onnx', (side, side), PIXEL_SIZE_UM)


def time_session(session: TipSession, warmup: int, runs: int) -> dict:
    """Return what `measure` does of wall times, in its form."""
    frame = np.random.default_rng(0).poisson(60, session.frame).astype(np.uint16)
    times = []
    for _ in range(warmup + runs):
        started = time.perf_counter()
        session(frame)
        times.append(1e3 * (time.perf_counter() - started))
    p50, p95, p99 = np.percentile(times[warmup:], (50, 95, 99))
    return dict(
        device=device_name('cpu'),
        onnxruntime=onnxruntime.__version__,
        runs=runs,
        date=time.strftime('%Y-%m-%d'),
        batches=[dict(batch=1, p50_ms=p50, p95_ms=p95, p99_ms=p99)],
    )


def to_markdown(result: dict) -> str:
    """Return the table of all models."""
    one = result[SLOW]
    lines = [
        f'{one["device"]}; median of {one["rounds"]} rounds of {one["runs"]} runs; {one["date"]}.',
        '',
        '| model | p50, ms | p99, ms | times faster |',
        '|---|---|---|---|',
    ]
    for name, own in result.items():
        p50, p99 = (own['batches'][0][key] for key in ('p50_ms', 'p99_ms'))
        faster = f'{own[FASTER]:.1f}' if FASTER in own else '-'
        lines.append(f'| {name} | {p50:.1f} | {p99:.1f} | {faster} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--runs', type=int, default=200, help='in each [%(default)s]')
    args = parser.parse_args()
    main(args.rounds, args.runs)
