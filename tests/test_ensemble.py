"""Seed ensembles: the mean of maps, put together from runs."""

import json

import pytest
import torch
from mmengine.config import Config

from pipedet import zoo
from pipedet.cli import main
from pipedet.engine.checkpoint import load_weights, newest_weights, save_weights
from pipedet.models import SeedEnsemble
from pipedet.models.tip_detector import build_detector
from pipedet.registry import MODELS

MEMBER = dict(
    type='HeatmapDetector',
    enhancer=None,
    encoder=dict(
        type='TimmPyramid',
        name='mobilenetv4_conv_small',
        levels=(1, 2, 3),
        channels=8,
        pretrained=False,
    ),
    coarse=dict(
        type='HeatmapHead',
        out_stride=4,
        hidden=8,
        sigma=5.0,
        merge='max',
        separation=8.0,
        blur=0.8,
        loss=dict(type='PeakFocalLoss'),
    ),
    max_tips=4,
    average_views=True,
    score_threshold=0.3,
)


def write_run(folder, seed, **changes):
    """Leave what a run leaves: its config and its weights."""
    torch.manual_seed(seed)
    folder.mkdir()
    config = Config(dict(model=MEMBER | changes))
    save_weights(folder / 'model.safetensors', build_detector(config.model))
    config.dump(folder / 'config.py')
    return folder


def test_maps_of_an_ensemble_are_the_mean_in_any_order(tmp_path):
    runs = [write_run(tmp_path / str(seed), seed) for seed in range(3)]
    main(['ensemble', *map(str, runs), '--out', str(tmp_path / 'all')])
    main(['ensemble', *map(str, reversed(runs)), '--out', str(tmp_path / 'reversed')])
    images = torch.rand(2, 1, 64, 64)
    maps = []
    for folder in (*runs, tmp_path / 'all', tmp_path / 'reversed'):
        model = MODELS.build(Config.fromfile(folder / 'config.py').model).eval()
        load_weights(newest_weights(folder), model)
        with torch.no_grad():
            maps.append(model._final(images))
    mean = torch.stack(maps[:3]).mean(dim=0)
    assert torch.allclose(maps[3], mean, atol=1e-5) and torch.allclose(maps[4], mean, atol=1e-5)
    assert not torch.allclose(maps[0], maps[1], atol=1e-3)


def test_an_ensemble_knows_how_its_members_were_trained(tmp_path):
    runs = [write_run(tmp_path / str(seed), seed) for seed in range(2)]
    (runs[1] / 'train.json').write_text('{"samples_seen": 64}', encoding='utf-8')
    main(['ensemble', *map(str, runs), '--out', str(tmp_path / 'all')])
    members = json.loads((tmp_path / 'all' / 'members.json').read_text(encoding='utf-8'))
    assert members == [{'run': '0'}, {'run': '1', 'samples_seen': 64}]


def test_copies_of_one_training_predict_as_it_does(tmp_path):
    run = write_run(tmp_path / 'run', 1)
    main(['ensemble', str(run), str(run), '--out', str(tmp_path / 'twice')])
    images = torch.rand(2, 1, 64, 64)
    alone, twice = (
        MODELS.build(Config.fromfile(folder / 'config.py').model).eval()
        for folder in (run, tmp_path / 'twice')
    )
    load_weights(newest_weights(run), alone)
    load_weights(newest_weights(tmp_path / 'twice'), twice)
    with torch.no_grad():
        for expected, found in zip(alone.read(images), twice.read(images), strict=True):
            assert torch.allclose(expected, found, atol=1e-4)


def test_what_cannot_be_averaged_is_refused(tmp_path):
    first = write_run(tmp_path / 'first', 1)
    other = write_run(tmp_path / 'other', 2, max_tips=8)
    for runs, message in (
        ([first], 'two runs or more'),
        ([first, other], 'other holds another model'),
        ([first, tmp_path], 'no config.py'),
    ):
        with pytest.raises(SystemExit, match=message):
            main(['ensemble', *map(str, runs), '--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()
    tipnet = json.loads((zoo.HERE / 'tipnet_s' / zoo.CONFIG).read_text(encoding='utf-8'))['model']
    with pytest.raises(ValueError, match='TipNet does more'):
        SeedEnsemble(member=tipnet, count=2)
