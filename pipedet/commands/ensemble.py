"""Average several trainings of one config: the runs of one detector from different seeds.

Reads the runs, writes a folder of the same shape: config.py and model.safetensors, to test, predict
or time with, and what the runs say of their training.
"""

import argparse
from pathlib import Path

from pipedet.commands.members import keep_records, shared_config
from pipedet.engine.checkpoint import WEIGHTS, load_weights, newest_weights, save_weights
from pipedet.registry import MODELS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs of one config')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')


def run(args: argparse.Namespace) -> None:
    """Put the runs together and write."""
    config = shared_config(args.runs)
    # By its name: a class cannot be written to a config.
    config.model = dict(type='pipedet.SeedEnsemble', member=config.model, count=len(args.runs))
    ensemble = MODELS.build(config.model)
    for folder, member in zip(args.runs, ensemble.members, strict=True):
        load_weights(newest_weights(folder), member)
    args.out.mkdir(parents=True, exist_ok=True)
    config.work_dir = str(args.out)
    config.dump(args.out / 'config.py')
    save_weights(args.out / WEIGHTS, ensemble)
    keep_records(args.runs, args.out)
    print(f'{len(args.runs)} runs in {args.out}: pipedet test {args.out / "config.py"}')
