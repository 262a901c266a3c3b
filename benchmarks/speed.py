"""How much faster TipNet is than the paper's model without its enhancer, in one run.

    python benchmarks/speed.py

Batch 1, from a 256x256 frame to tips; the models take turns, so that what else the machine does
meets all alike. Writes results/speed.json and the table between the marks in README.md.
"""

import argparse
import json
from pathlib import Path

import torch
from mmengine.config import Config
from tables import rewrite

from pipedet.commands.latency import measure
from pipedet.engine.cpu import tune_cpu

HERE = Path(__file__).parent
CONFIGS = HERE.parent / 'configs'
MODELS = ('ours', 'quickstart', 'tipnet_m', 'tipnet_s', 'tipnet_n')
SLOW = 'ours'
FASTER = f'times faster than {SLOW}'


def main(rounds: int, runs: int) -> None:
    """Measure in rounds, and write the median round of each model."""
    tune_cpu()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    timed = {name: [] for name in MODELS}
    for _ in range(rounds):
        for name in MODELS:
            config = Config.fromfile(CONFIGS / f'{name}.py')
            config.model.enhancer = None
            timed[name].append(measure(config, device, [1], warmup=5, runs=runs))
    result = {}
    for name, own in timed.items():
        by_p50 = sorted(own, key=lambda one: one['batches'][0]['p50_ms'])
        result[name] = by_p50[len(own) // 2]
    slow = result[SLOW]['batches'][0]['p50_ms']
    for own in result.values():
        own['rounds'] = rounds
        own[FASTER] = slow / own['batches'][0]['p50_ms']
    (HERE / 'results' / 'speed.json').write_text(json.dumps(result, indent=1) + '\n')
    table = to_markdown(result)
    rewrite(HERE / 'README.md', 'speed', table)
    print(table)


def to_markdown(result: dict) -> str:
    """Return the table of all models."""
    one = result[SLOW]
    lines = [
        f'{one["device"]}; median of {one["rounds"]} rounds of {one["runs"]} runs; {one["date"]}.',
        '',
        '| model | p50, ms | p99, ms | times faster |',
        '|---|---|---|---|',
    ]
    for name in MODELS:
        own = result[name]
        p50, p99 = (own['batches'][0][key] for key in ('p50_ms', 'p99_ms'))
        lines.append(f'| {name} | {p50:.1f} | {p99:.1f} | {own[FASTER]:.1f} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--runs', type=int, default=30)
    args = parser.parse_args()
    main(args.rounds, args.runs)
