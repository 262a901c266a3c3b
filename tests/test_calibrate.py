"""`pipedet calibrate`: from a trained run to one that says what it knows."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from pipedet import zoo
from pipedet.__main__ import main
from pipedet.apis import TipLocaliser
from pipedet.commands.calibrate import _drawn, stream_like
from pipedet.synthesis import draw_scene

CONFIGS = Path(__file__).parent.parent / 'configs'


@pytest.fixture
def run(tmp_path):
    """A run folder with the config of tipnet_s and the weights that ship."""
    Config.fromfile(CONFIGS / 'tipnet_s.py').dump(tmp_path / 'config.py')
    for name in ('model.safetensors', 'model.safetensors.sha256'):
        shutil.copy(zoo.HERE / 'tipnet_s' / name, tmp_path / name)
    return tmp_path


def test_a_calibrated_run_answers_with_a_confidence(run):
    main(['calibrate', str(run / 'config.py'), '--scenes', '32'])
    found = json.loads((run / 'calibrated' / 'calibration.json').read_text(encoding='utf-8'))
    model = Config.fromfile(run / 'calibrated' / 'config.py').model
    assert model.score_threshold == found['score_threshold'] == 0.7
    assert list(model.head.score) == found['score']
    assert 0 < found['answers']['right'] <= found['answers']['images'] <= 6 * 32
    folder = run / 'calibrated'
    localise = TipLocaliser(folder / 'config.py', folder / 'model.safetensors')
    scenes = [draw_scene('clear', seed=5, epoch=0, index=i).capture() for i in range(4)]
    answers = [localise(scene, (0.8, 0.8)) for scene in scenes]
    # By so few scenes a new one may be found unlike them all.
    assert all(a.abstained or 0 <= a.confidence <= 1 for a in answers)


def test_a_calibration_starts_from_the_network_alone(run):
    main(['calibrate', str(run / 'config.py'), '--scenes', '16'])
    once, again = run / 'calibrated', run / 'again'
    main(['calibrate', str(once / 'config.py'), '--scenes', '16', '--out', str(again)])
    first, second = (
        json.loads((f / 'calibration.json').read_text(encoding='utf-8')) for f in (once, again)
    )
    assert first['score'] == pytest.approx(second['score']) and first['before'] == second['before']


def test_scenes_of_joined_sets_are_new_ones_too():
    drawn, labelled = dict(recipes=dict(clear=1.0), length=9, seed=1, keep=2), dict(root='rig')
    alike = stream_like(dict(sets=[drawn, labelled]), count=4, seed=7)
    assert alike['sets'] == [drawn | dict(length=4, seed=7, keep=1), labelled]


def test_answers_to_labelled_images_that_were_trained_on_judge_nothing():
    own = Config.fromfile(CONFIGS / 'labelled.py')
    kinds = _drawn(own, 8)
    assert [list(kind['recipes']) for kind in kinds] == [
        [name] for name in Config.fromfile(CONFIGS / 'tipnet_s.py').train_dataloader.dataset.recipes
    ]
    assert all(kind['seed'] == 400 and kind['length'] == 8 for kind in kinds)


def test_what_is_no_tipnet_is_told(run):
    config = Config.fromfile(CONFIGS / 'detectors' / 'midasmap_small.py')
    config.dump(run / 'config.py')
    with pytest.raises(SystemExit, match='no TipNet'):
        main(['calibrate', str(run / 'config.py')])
