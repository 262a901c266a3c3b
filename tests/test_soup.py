"""Means of weights: of trainings that began alike, one network."""

import json

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import load_file
from torch import nn

from pipedet.cli import main
from pipedet.commands.soup import mean_state, retake_moments
from pipedet.engine.checkpoint import load_weights, newest_weights, save_weights
from pipedet.models.large_kernels import LargeKernelBlock
from pipedet.models.tip_detector import build_detector

MODEL = dict(
    type='TipNet',
    enhancer=None,
    encoder=dict(
        type='TimmPyramid',
        name='mobilenetv4_conv_small_050',
        levels=(1, 2, 3),
        channels=8,
        pretrained=False,
        patch_stem=True,
        equivariant=True,
    ),
    head=dict(
        type='TipHead',
        hidden=8,
        sigma=5.0,
        separation=8.0,
        blur=0.8,
        reach=7.0,
        loss=dict(type='PeakFocalLoss'),
        weights=dict(place=0.5, direction=0.2, height=0.1),
    ),
    max_tips=4,
    score_threshold=0.3,
)
SCENES = dict(
    type='SyntheticPipettes',
    recipes=dict(standard=1.0),
    length=8,
    pipeline=[dict(type='pipedet.Warp'), dict(type='pipedet.PackTips')],
    seed=5,
    keep=2,
)


def write_run(folder, seed, origin='before', **changes):
    torch.manual_seed(seed)
    folder.mkdir()
    loader = dict(dataset=SCENES)
    config = Config(dict(model=MODEL | changes, train_dataloader=loader, load_from=origin))
    save_weights(folder / 'model.safetensors', build_detector(config.model))
    config.dump(folder / 'config.py')
    (folder / 'data.json').write_text(json.dumps(dict(train=f'stream {seed}')), encoding='utf-8')
    (folder / 'train.json').write_text('{"samples_seen": 64}', encoding='utf-8')
    return folder


def test_weights_are_the_mean_and_the_records_stay(tmp_path):
    runs = [write_run(tmp_path / str(seed), seed) for seed in range(3)]
    main(['soup', *map(str, runs), '--out', str(tmp_path / 'soup'), '--scenes', '4'])
    models = []
    for folder in (*runs, tmp_path / 'soup'):
        model = build_detector(Config.fromfile(folder / 'config.py').model)
        load_weights(newest_weights(folder), model)
        models.append(dict(model.named_parameters()))
    for name, value in models[-1].items():
        mean = torch.stack([own[name] for own in models[:3]]).mean(dim=0)
        assert torch.allclose(value, mean, atol=1e-6), name
    members = json.loads((tmp_path / 'soup' / 'members.json').read_text(encoding='utf-8'))
    assert members[1] == dict(run='1', data='stream 1', samples_seen=64, with_origin=False)


def test_the_weights_that_runs_began_with_can_be_counted_in(tmp_path):
    before = write_run(tmp_path / 'before', 7)
    origin = str(before / 'model.safetensors')
    runs = [write_run(tmp_path / str(seed), seed, origin=origin) for seed in range(2)]
    out = tmp_path / 'soup'
    main(['soup', *map(str, runs), '--with-origin', '--out', str(out), '--scenes', '4'])
    weights = [load_file(folder / 'model.safetensors') for folder in (*runs, before, out)]
    name = next(key for key in weights[0] if key.endswith('weight') and weights[0][key].dim() == 4)
    mean = torch.stack([own[name] for own in weights[:3]]).mean(dim=0)
    assert torch.allclose(weights[3][name], mean, atol=1e-6)
    assert all(
        r['with_origin'] for r in json.loads((out / 'members.json').read_text(encoding='utf-8'))
    )


def test_blocks_that_the_origin_lacks_add_nothing_there(tmp_path):
    far = MODEL['encoder'] | dict(large_kernels=((), (), (7,)))
    before = write_run(tmp_path / 'before', 7)
    origin = str(before / 'model.safetensors')
    runs = [write_run(tmp_path / str(s), s, origin, encoder=far) for s in range(2)]
    for folder in runs:
        model = build_detector(Config.fromfile(folder / 'config.py').model)
        (block,) = (layer for layer in model.modules() if isinstance(layer, LargeKernelBlock))
        nn.init.constant_(block.body[-1].weight, 3.0)
        save_weights(folder / 'model.safetensors', model)
    out = tmp_path / 'soup'
    main(['soup', *map(str, runs), '--with-origin', '--out', str(out), '--scenes', '4'])
    (mean,) = (w for n, w in load_file(out / 'model.safetensors').items() if 'body.6.weight' in n)
    assert torch.allclose(mean, torch.tensor(2.0))


def test_the_mean_of_what_counts_is_no_fraction():
    states = [
        dict(weight=torch.full((2,), w), count=torch.tensor(c)) for w, c in ((1.0, 3), (2, 8))
    ]
    mean = mean_state(states)
    assert torch.equal(mean['weight'], torch.full((2,), 1.5)) and mean['count'] == 3


def test_moments_are_those_of_the_scenes(tmp_path):
    run = write_run(tmp_path / 'run', 1)
    config = Config.fromfile(run / 'config.py')
    model = build_detector(config.model)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(7.0)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    retake_moments(model, config, 8)
    first = {name: value.clone() for name, value in model.named_buffers()}
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(layer.momentum == 0.1 and not layer.training for layer in norms)
    assert all((layer.running_mean != 7.0).all() for layer in norms)
    assert all(torch.equal(weights[name], value) for name, value in model.named_parameters())
    retake_moments(model, config, 8)  # the same scenes again: nothing is left of what was before
    for name, value in model.named_buffers():
        assert torch.allclose(value.float(), first[name].float(), atol=1e-5), name


def test_what_has_no_mean_is_refused(tmp_path):
    first = write_run(tmp_path / 'first', 1)
    other = write_run(tmp_path / 'other', 2, max_tips=8)
    elsewhere = write_run(tmp_path / 'elsewhere', 3, origin='another')
    nowhere = [write_run(tmp_path / name, 4, origin=None) for name in ('left', 'right')]
    stopped, calibrated = (write_run(tmp_path / name, 5) for name in ('stopped', 'calibrated'))
    (stopped / 'train.json').unlink()
    (calibrated / 'calibration.json').write_text('{}', encoding='utf-8')
    for runs, message in (
        ([first], 'two runs or more'),
        ([first, other], 'holds another model'),
        ([first, elsewhere], 'began with another, .*first with before'),
        (nowhere, 'began with random weights'),
        ([first, stopped], 'stopped is no training that is done'),
        ([first, calibrated], 'calibrated is no training that is done'),
    ):
        with pytest.raises(SystemExit, match=message):
            main(['soup', *map(str, runs), '--out', str(tmp_path / 'out')])
