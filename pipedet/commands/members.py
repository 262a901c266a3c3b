"""Runs of one config that become one model: what is asked of them, and what is kept of them."""

import json
from pathlib import Path

from mmengine.config import Config

from pipedet.commands.train import DATA
from pipedet.engine.checkpoint import RECORD

MEMBERS = 'members.json'  # what each run says of its training


def shared_config(folders: list[Path], others: int = 0) -> Config:
    """Return the config of the first run; `others` are models that are averaged beside the runs.

    Raises:
        FileNotFoundError: a folder is not that of a run.
        ValueError: there are fewer than two, or their models differ.
    """
    if len(folders) + others < 2:
        raise ValueError('give two runs or more, trained with different --seed')
    configs = [_config_of(folder) for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        if config.model != configs[0].model:
            raise ValueError(f'{folder} holds another model than {folders[0]}')
    return configs[0]


def keep_records(folders: list[Path], out: Path, **about: bool) -> None:
    """Write what the runs say of their training, and more about them, beside what they became."""
    records = [_training_of(folder) | about for folder in folders]
    (out / MEMBERS).write_text(json.dumps(records, indent=1) + '\n', encoding='utf-8')


def _config_of(folder: Path) -> Config:
    path = folder / 'config.py'
    if not path.is_file():
        raise FileNotFoundError(f'no config.py in {folder}: not the folder of a run')
    return Config.fromfile(path)


def _training_of(folder: Path) -> dict:
    """Return the record of a run and its data; of one that came without, its name alone."""
    found = dict(run=folder.name)
    if (folder / DATA).is_file():
        found['data'] = json.loads((folder / DATA).read_text(encoding='utf-8'))['train']
    if (folder / RECORD).is_file():
        found |= json.loads((folder / RECORD).read_text(encoding='utf-8'))
    return found
