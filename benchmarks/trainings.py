"""How the weights of a run came about: its own training, and those that it went on from."""

import json
from pathlib import Path

from mmengine.config import Config

from pipedet import zoo
from pipedet.commands.common import device_name
from pipedet.commands.members import MEMBERS
from pipedet.commands.train import DATA
from pipedet.engine.checkpoint import RECORD, checkpoints, load_checkpoint

HERE = Path(__file__).parent


def trainings_of(run: Path) -> list[dict]:
    """Return what is known of this training, and before it of those whose weights it began with."""
    members = run / MEMBERS
    if members.is_file():
        records = json.loads(members.read_text(encoding='utf-8'))
        note = f'what ships is the mean of the weights of these {len(records)}'
        note += ' and of those before them' * records[0]['with_origin'] + ' (`pipedet soup`)'
        own = [_said(record, record['data'], note) for record in records]
    else:
        own = [_training(run)]
    origin = Config.fromfile(run / 'config.py').get('load_from')
    if origin is None:
        return own
    if origin not in zoo.names():
        raise ValueError(f'{run} began with weights of {origin}, of which nothing is known')
    earlier = json.loads((HERE / 'results' / f'zoo_{origin}.json').read_text(encoding='utf-8'))[
        'trainings'
    ]
    return [training for training in earlier if training not in own] + own


def _training(run: Path) -> dict:
    """Return what a run says of its training; a run that was stopped says it in its checkpoint."""
    record = run / RECORD
    data = json.loads((run / DATA).read_text(encoding='utf-8'))['train']
    config = Config.fromfile(run / 'config.py')
    teacher = config.get('teacher')
    if record.is_file():
        note = f'taught by {teacher.name} too' if teacher else None
        return _said(json.loads(record.read_text(encoding='utf-8')), data, note)
    loop = load_checkpoint(checkpoints(run)[0])['loop']
    batch = config.train_dataloader.batch_size
    return dict(
        command=f'train configs/{run.name}.py',
        device=device_name('cpu'),
        train_s=sum(stage['elapsed_s'] for stage in loop['stages']),
        samples_seen=loop['iter'] * batch,
        data=data,
    )


def _said(record: dict, data: str, note: str | None) -> dict:
    own = {key: record[key] for key in ('command', 'device', 'train_s', 'samples_seen')}
    own['command'] = 'train ' + own['command'].removeprefix('train ')  # tools/train.py has none
    return own | dict(data=data, note=note)
