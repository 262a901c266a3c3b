"""What a training starts from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config, ConfigDict

from pipedet.commands.start import give_teacher
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
