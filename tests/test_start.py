"""What a training starts from, and with whom."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict

from pipedet.cli import main
from pipedet.commands.common import build_runner
from pipedet.commands.start import give_teacher
from pipedet.engine import TipRunner
from pipedet.engine.checkpoint import WEIGHTS
from pipedet.models.tip_detector import build_detector

CONFIGS = Path(__file__).parent.parent / 'configs'


def runner_of(config, **teacher):
    told = []
    return SimpleNamespace(
        cfg=ConfigDict(teacher=teacher or None),
        model=build_detector(Config.fromfile(CONFIGS / config).model),
        logger=SimpleNamespace(info=told.append),
        told=told,
    )


def test_a_tipnet_is_taught_by_a_model_that_ships():
    runner = runner_of('tipnet_n.py', name='tipnet_s', share=0.5)
    give_teacher(runner)
    assert runner.told == ['tipnet_s teaches 50% of the heatmap']


def test_without_a_teacher_nobody_is_asked():
    runner = runner_of('quickstart.py')
    give_teacher(runner)
    assert not runner.told


def test_a_teacher_that_cannot_teach_is_named():
    with pytest.raises(ValueError, match='no model named'):
        give_teacher(runner_of('tipnet_n.py', name='tipnet_xl', share=0.5))
    with pytest.raises(ValueError, match='only a TipNet'):
        give_teacher(runner_of('quickstart.py', name='tipnet_s', share=0.5))


def test_weights_whose_checkpoints_were_removed_are_not_trained_over(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b'finished')
    config = str(CONFIGS / '_base_' / 'tiny.py')
    with pytest.raises(SystemExit, match='another --work-dir and add --cfg-options load_from='):
        main(['train', config, '--work-dir', str(tmp_path), '--resume'])
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


@pytest.mark.parametrize(
    ('master', 'asked'),
    [
        ({'MASTER_ADDR': 'node7', 'MASTER_PORT': '4711'}, 'tcp://node7:4711'),
        ({}, 'tcp://node3:29500'),
    ],
    ids=['told', 'found out'],
)
def test_slurm_without_cuda_is_joined_by_gloo(monkeypatch, tmp_path, master, asked):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\nprintf "node3\\nnode4\\n"\n', encoding='utf-8')
    scontrol.chmod(0o755)
    slurm = dict(SLURM_STEP_NUM_TASKS=2, SLURM_PROCID=1, SLURM_NTASKS=2, SLURM_NODELIST='node[3-4]')
    for name in ('WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    for name, value in (slurm | master).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    joined, runner = [], SimpleNamespace(logger=logging.getLogger('pipedet_slurm'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(
        torch.distributed, 'init_process_group', lambda *a, **k: joined.append((a, k))
    )
    monkeypatch.setattr(TipRunner, 'from_cfg', lambda config: runner)
    config = Config()
    build_runner(config)
    assert config.launcher == 'slurm'
    assert joined == [(('gloo',), dict(init_method=asked, rank=1, world_size=2))]
