"""The models that come with pipedet: they load, find tips, and say when they do not know."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

import pipedet
from pipedet import zoo
from pipedet.cli import main
from pipedet.engine.checkpoint import load_weights
from pipedet.models.tip_detector import build_detector
from pipedet.synthesis import draw_scene
from pipedet.visualization import write_picture

STRIPES = (np.indices((256, 256))[0] // 4 % 2 * 200).astype(np.uint8)


@pytest.fixture(scope='module', params=zoo.names())
def localise(request):
    return pipedet.load(request.param)


def clear_scenes(count=6):
    return [draw_scene('clear', seed=77, epoch=0, index=8 * i) for i in range(count)]


def test_every_model_has_weights_a_card_and_fits_a_mail():
    assert 'tipnet_s' in zoo.names()
    for name in zoo.names():
        folder = zoo.HERE / name
        assert (folder / zoo.WEIGHTS).stat().st_size < 8 << 20
        assert all(
            word in (folder / zoo.CARD).read_text(encoding='utf-8')
            for word in ('Trained', 'Limits', 'seed')
        )
        json.loads((folder / zoo.CONFIG).read_text(encoding='utf-8'))


def test_training_can_go_on_from_the_weights_that_ship():
    config = Config.fromfile(Path(__file__).parent.parent / 'configs/labelled.py')
    assert config.load_from == 'tipnet_s'
    load_weights(zoo.weights_of(config.load_from), build_detector(config.model))


def test_unknown_models_are_named():
    with pytest.raises(ValueError, match='tipnet_s'):
        pipedet.load('tipnet_xxl')


def test_clear_tips_are_found_with_all_that_is_known_of_them(localise):
    found, total = 0, 0
    for drawn in clear_scenes():
        size = float(drawn.scene.pixel_size_um[0])
        tips = localise(drawn.capture(), (size, size))
        apart = np.linalg.norm(drawn.tips.numpy()[:, None] - tips.points_px[None], axis=-1) * size
        found, total = found + (apart < 5).any(axis=1).sum(), total + len(apart)
        assert tips.abstained is None
        assert np.allclose(tips.points_um, tips.points_px * size)
        assert (np.linalg.eigvalsh(tips.covariance_px) > 0).all()
        assert np.allclose(np.linalg.norm(tips.direction, axis=1), 1, atol=1e-4)
    assert found > 0.6 * total


def test_frames_of_another_shape_are_read_in_place(localise):
    for drawn in clear_scenes(3):
        image = drawn.capture()
        wide = np.pad(image, ((0, 0), (0, 87)), mode='reflect')
        alone, padded = localise(image, (0.7, 0.7)), localise(wide, (0.7, 0.7))
        # What is beside a tip may move its score and place a little; one near the threshold may go.
        for point in alone.points_px[alone.scores > 0.8]:
            assert np.linalg.norm(padded.points_px - point, axis=1).min() < 3


def test_of_more_tips_than_an_image_can_hold_the_best_are_answered():
    everything, best = pipedet.load(), pipedet.load(max_tips=2)
    crowded = [drawn for drawn in clear_scenes(10) if len(drawn.tips) > 2][0]
    every, two = everything(crowded.capture(), (0.7, 0.7)), best(crowded.capture(), (0.7, 0.7))
    assert len(every.scores) > 2 and np.array_equal(two.points_px, every.points_px[:2])
    assert np.allclose(two.covariance_px, every.covariance_px[:2])
    assert 0 < two.confidence < every.confidence  # what it left out looks like tips
    with pytest.raises(ValueError, match='max_tips'):
        pipedet.load(max_tips=0)


def test_answers_that_are_too_unsure_are_held_back(localise):
    image = clear_scenes(1)[0].capture()
    given = localise(image, (0.7, 0.7))
    assert len(given.scores)
    localise.min_confidence = given.confidence + 0.01
    held_back = localise(image, (0.7, 0.7))
    localise.min_confidence = None
    assert 'confidence' in held_back.abstained and not len(held_back.points_px)
    assert held_back.confidence == given.confidence
    for rules in (dict(min_confidence=1.1), dict(threshold=-0.1)):
        with pytest.raises(ValueError, match='between 0 and 1'):
            pipedet.load(**rules)


def test_what_cannot_be_judged_is_not(localise):
    uniform = localise(np.full((256, 256), 7, np.uint8))
    assert uniform.abstained and len(uniform.points_px) == 0
    assert len(localise(STRIPES).scores) == 0


@pytest.mark.parametrize('name', ['tipnet_s', 'tipnet_m'])  # tipnet_n takes stripes for known
def test_what_is_unlike_all_that_is_known_is_said_to_be(name):
    assert 'unlike' in pipedet.load(name)(STRIPES).abstained


def test_predict_needs_no_config(tmp_path):
    drawn = clear_scenes(1)[0]
    write_picture(tmp_path / 'frame.png', drawn.capture())
    write_picture(tmp_path / 'flat.png', np.zeros((64, 64), np.uint8))
    main(['predict', str(tmp_path), '--out', str(tmp_path / 'out'), '--pixel-size-um', '0.7'])
    with open(tmp_path / 'out' / 'predictions.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert rows and {row['image'] for row in rows} == {'frame.png'}
    assert all(float(row['sd_x_px']) > 0 for row in rows)
    assert len(list((tmp_path / 'out' / 'overlays').glob('*.png'))) == 2
    with open(tmp_path / 'out' / 'frames.csv', encoding='utf-8') as file:
        frames = {row['image']: row for row in csv.DictReader(file)}
    assert int(frames['frame.png']['tips']) == len(rows) and not frames['frame.png']['note']
    assert frames['flat.png']['tips'] == '0' and frames['flat.png']['note']
    assert 0 < float(frames['frame.png']['confidence']) < 1
    assert not frames['flat.png']['confidence']
    unsure = ['--min-confidence', '1', '--max-tips', '4', '--threshold', '0.5']
    main(['predict', str(tmp_path / 'frame.png'), '--out', str(tmp_path / 'sure'), *unsure])
    with open(tmp_path / 'sure' / 'frames.csv', encoding='utf-8') as file:
        (frame,) = csv.DictReader(file)
    assert frame['tips'] == '0' and 'confidence' in frame['note']


def test_a_model_is_tested_by_its_name(tmp_path):
    (tmp_path / 'rig' / 'images').mkdir(parents=True)
    lines = ['image,x,y']
    for i, drawn in enumerate(clear_scenes(3)):
        write_picture(tmp_path / 'rig' / 'images' / f'{i}.png', drawn.capture())
        lines += [f'{i}.png,{x},{y}' for x, y in drawn.tips.tolist()]
    (tmp_path / 'rig' / 'tips.csv').write_text('\n'.join(lines), encoding='utf-8')
    data = ['--data', str(tmp_path / 'rig'), '--annotations', 'tips.csv', '--pixel-size-um', '0.7']
    main(['test', 'tipnet_s', '--work-dir', str(tmp_path / 'run'), *data])
    metrics = json.loads(
        (tmp_path / 'run' / 'test_rig' / 'metrics.json').read_text(encoding='utf-8')
    )['overall']
    assert metrics['images'] == 3 and metrics['tip/acc@10um'] > 60
