"""Average several trainings of one config: the runs of one detector from different seeds.

Reads the runs, writes a folder of the same shape: config.py and model.safetensors, to test, predict
or time with, and what the runs say of their training.
"""

import argparse
import json
from pathlib import Path

from mmengine.config import Config

from pipedet.commands.train import RECORD
from pipedet.engine.checkpoint import WEIGHTS, load_weights, newest_weights, save_weights
from pipedet.registry import MODELS

MEMBERS = 'members.json'  # what each run says of its training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs of one config')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')


def run(args: argparse.Namespace) -> None:
    """Put the runs together and write."""
    if len(args.runs) < 2:
        raise ValueError('an ensemble needs two runs or more, trained with different --seed')
    configs = [_config_of(folder) for folder in args.runs]
    for folder, config in zip(args.runs, configs, strict=True):
        if config.model != configs[0].model:
            raise ValueError(f'{folder} holds another model than {args.runs[0]}')
    config = configs[0]
    # By its name: a class cannot be written to a config.
    config.model = dict(type='pipedet.SeedEnsemble', member=config.model, count=len(args.runs))
    ensemble = MODELS.build(config.model)
    for folder, member in zip(args.runs, ensemble.members, strict=True):
        load_weights(newest_weights(folder), member)
    args.out.mkdir(parents=True, exist_ok=True)
    config.work_dir = str(args.out)
    config.dump(args.out / 'config.py')
    save_weights(args.out / WEIGHTS, ensemble)
    records = [_training_of(folder) for folder in args.runs]
    (args.out / MEMBERS).write_text(json.dumps(records, indent=1) + '\n')
    print(f'{len(args.runs)} runs in {args.out}: pipedet test {args.out / "config.py"}')


def _config_of(folder: Path) -> Config:
    path = folder / 'config.py'
    if not path.is_file():
        raise FileNotFoundError(f'no config.py in {folder}: not the folder of a run')
    return Config.fromfile(path)


def _training_of(folder: Path) -> dict:
    """Return the record of a run; of one that was stopped, or came without it, its name alone."""
    path = folder / RECORD
    return dict(run=folder.name) | (json.loads(path.read_text()) if path.is_file() else {})
