import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from safetensors.torch import load_file

from pipedet.apis import TipLocaliser
from pipedet.cli import main
from pipedet.commands.common import datasets_of, set_in_images
from pipedet.engine.checkpoint import save_weights
from pipedet.formats import read_image
from pipedet.visualization import write_picture

ROOT = Path(__file__).parent.parent
TINY = ROOT / 'configs' / '_base_' / 'tiny.py'


@pytest.fixture(scope='module')
def run_folder(tmp_path_factory):
    """A finished run of the tiny config."""
    folder = tmp_path_factory.mktemp('run')
    main(['train', str(TINY), '--work-dir', str(folder), '--seed', '4'])
    return folder


def test_train_leaves_everything_behind(run_folder):
    names = {str(p.relative_to(run_folder)) for p in run_folder.rglob('*') if p.is_file()}
    assert {
        'config.py',
        'environment.json',
        'data.json',
        'train.json',
        'model.safetensors',
        'curves.png',
        'test/report.md',
        'test/metrics.json',
        'test/standard_best.png',
        'test/standard_worst.png',
    } <= names
    record = json.loads((run_folder / 'train.json').read_text(encoding='utf-8'))
    assert record['samples_seen'] == 32 and record['stages'][0]['steps'] == 8


def test_test_repeats_what_training_measured(run_folder, tmp_path):
    main(
        [
            'test',
            str(run_folder / 'config.py'),
            '--work-dir',
            str(run_folder),
            '--out',
            str(tmp_path),
        ]
    )
    again, first = (
        json.loads((folder / 'metrics.json').read_text(encoding='utf-8'))['overall']
        for folder in (tmp_path, run_folder / 'test')
    )
    assert again == first


def test_latency_writes_its_figures(run_folder, tmp_path):
    out = tmp_path / 'latency.json'
    args = '--batch 1 2 --warmup 1 --runs 3 --threads 1'.split()
    main(['latency', str(TINY), *args, '--out', str(out)])
    result = json.loads(out.read_text(encoding='utf-8'))
    assert [row['batch'] for row in result['batches']] == [1, 2] and result['gflop'] > 0.1
    assert all(0 < row['p50_ms'] <= row['p95_ms'] <= row['p99_ms'] for row in result['batches'])


def test_browse_draws_a_sheet(tmp_path):
    out = tmp_path / 'sheet.png'
    main(['browse', str(TINY), '--count', '5', '--out', str(out)])
    assert read_image(out).shape[0] > 500


def test_browse_leaves_out_what_cannot_be_read(tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    for name in ('a.png', 'b.png'):
        write_picture(tmp_path / name, image)
    (tmp_path / 'b.png').write_bytes((tmp_path / 'b.png').read_bytes()[:-40])
    (tmp_path / 'tips.csv').write_text('image,x,y\na.png,10,20\nb.png,30,40\n', encoding='utf-8')
    pipeline = [dict(type='pipedet.Warp'), dict(type='pipedet.PackTips')]
    dataset = dict(type='pipedet.PipetteImages', root=str(tmp_path), annotations='tips.csv', seed=0,
                   subset='rig', pipeline=pipeline)  # fmt: skip
    config = tmp_path / 'config.py'
    Config(dict(test_dataloader=dict(dataset=dataset), work_dir=str(tmp_path))).dump(config)
    sheet = tmp_path / 'sheet.png'
    main(['browse', str(config), '--split', 'test', '--out', str(sheet)])
    assert 'left out' in capsys.readouterr().out and sheet.is_file()


@pytest.fixture
def images(tmp_path):
    """A folder with an 8-bit PNG, a 12-bit stack with a scale, and four bad files."""
    folder = tmp_path / 'images'
    folder.mkdir()
    rng = np.random.default_rng(0)
    png = rng.integers(0, 255, (100, 140), np.uint8)
    write_picture(folder / 'a.png', png)
    stack = rng.integers(0, 4095, (2, 90, 80)).astype(np.uint16)
    meta = dict(axes='TYX', PhysicalSizeX=0.5, PhysicalSizeY=0.5)
    tifffile.imwrite(folder / 'b.ome.tif', stack, ome=True, metadata=meta)
    (folder / 'c_truncated.png').write_bytes((folder / 'a.png').read_bytes()[:900])
    (folder / 'd_empty.tif').touch()
    tifffile.imwrite(folder / 'e_nan.tif', np.full((30, 30), np.nan, np.float32))
    (folder / 'notes.txt').write_text('not an image', encoding='utf-8')
    return folder


def predict(run_folder, source, out, *extra):
    main(
        ['predict', str(source), '--out', str(out), '--config', str(run_folder / 'config.py'),
         '--checkpoint', str(run_folder / 'model.safetensors'), *extra]
    )  # fmt: skip


def test_predict_reads_what_it_can_and_lists_the_rest(run_folder, images, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        predict(run_folder, images, tmp_path / 'out')
    assert stop.value.code == 1
    told = capsys.readouterr()
    assert 'in 3 images' in told.out and '1 images carry no pixel size' in told.out
    for name in ('c_truncated.png', 'd_empty.tif', 'e_nan.tif'):
        assert told.err.count(name) == 1
    with open(tmp_path / 'out' / 'predictions.csv', encoding='utf-8') as file:
        assert next(csv.reader(file))[:8] == 'image,frame,tip,x_px,y_px,x_um,y_um,score'.split(',')
    assert len(list((tmp_path / 'out' / 'overlays').glob('*.png'))) == 3


def test_results_are_replaced_only_where_that_is_asked_for(run_folder, images, tmp_path):
    predict(run_folder, images / 'a.png', tmp_path / 'out')
    stale = tmp_path / 'out' / 'overlays' / 'of_another_run.png'
    stale.touch()
    with pytest.raises(SystemExit, match='--overwrite'):
        predict(run_folder, images / 'a.png', tmp_path / 'out')
    assert stale.exists()
    predict(run_folder, images / 'a.png', tmp_path / 'out', '--overwrite')
    assert not stale.exists() and list(stale.parent.glob('*.png'))


def test_a_bad_page_costs_no_other(run_folder, tmp_path, capsys):
    stack = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    stack[1, 5, 5] = np.nan
    tifffile.imwrite(tmp_path / 'a.tif', stack, photometric='minisblack')
    with pytest.raises(SystemExit):
        predict(run_folder, tmp_path / 'a.tif', tmp_path / 'out')
    with open(tmp_path / 'out' / 'frames.csv', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert 'frame 1 of' in capsys.readouterr().err
    assert [row['frame'] for row in rows] == ['0', '1', '2']
    assert [bool(row['tips']) for row in rows] == [True, False, True] and rows[1]['note']


def test_predict_strict_stops_at_the_first_bad_file(run_folder, images, tmp_path):
    with pytest.raises(SystemExit, match='c_truncated.png'):
        predict(run_folder, images, tmp_path / 'out', '--strict')
    with pytest.raises(SystemExit, match='no such file'):
        predict(run_folder, images / 'none.png', tmp_path / 'out')
    with pytest.raises(SystemExit, match='no config at'):
        main(['predict', str(images), '--out', str(tmp_path), '--config', 'none.py'])


def test_test_reads_a_folder_of_labelled_images(run_folder, tmp_path):
    data = tmp_path / 'rig'
    data.mkdir()
    image = np.random.default_rng(1).integers(0, 255, (60, 90), np.uint8)
    for name in ('one.png', 'two.png', 'negative.png'):
        write_picture(data / name, image)
    (data / 'tips.csv').write_text(
        'image,x,y\none.png,10,20\none.png,50,30\ntwo.png,70,8\n', encoding='utf-8'
    )
    out = tmp_path / 'out'
    main(
        ['test', str(TINY), '--checkpoint', str(run_folder / 'model.safetensors'),
         '--data', str(data), '--annotations', 'tips.csv', '--pixel-size-um', '0.8',
         '--work-dir', str(tmp_path), '--out', str(out)]
    )  # fmt: skip
    overall = json.loads((out / 'metrics.json').read_text(encoding='utf-8'))['overall']
    assert overall['images'] == 3 and overall['tips'] == 3


def test_strict_is_for_configs_that_read_labelled_images(tmp_path):
    for verb in ('train', 'test'):
        with pytest.raises(SystemExit, match='--strict'):
            main([verb, str(TINY), '--work-dir', str(tmp_path), '--strict'])
    config = Config.fromfile(TINY.parents[1] / 'labelled.py')
    datasets = datasets_of(config)
    assert set_in_images(datasets, dict(strict=True)) == 3
    assert datasets[0].sets[1].strict and datasets[2].strict and 'strict' not in datasets[0].sets[0]


def test_the_localiser_answers_in_both_units_and_refuses_nonsense(run_folder):
    localise = TipLocaliser(run_folder / 'config.py', run_folder / 'model.safetensors')
    localise.model.score_threshold = 0.0
    image = np.random.default_rng(0).integers(0, 4095, (120, 200)).astype(np.uint16)
    tips = localise(image, pixel_size_um=(0.5, 0.25))
    assert len(tips.scores) > 0
    assert np.allclose(tips.points_um, tips.points_px * [0.5, 0.25])
    assert localise(image).points_um is None
    with pytest.raises(ValueError, match='H, W'):
        localise(np.zeros((4, 4, 3)))
    assert 'NaN' in localise(np.full((32, 32), np.nan)).abstained


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(tmp_path / 'other.safetensors', torch.nn.Linear(2, 2))
    with pytest.raises(SystemExit, match='another model'):
        main(['test', str(TINY), '--checkpoint', str(tmp_path / 'other.safetensors')])


def train_on_two_ranks(config, folder, *options):
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2',
        str(ROOT / 'tools' / 'train.py'), str(config), '--work-dir', str(folder),
        '--cfg-options', 'train_cfg.stages.0.epochs=1', *options,
    ]  # fmt: skip
    env = os.environ | {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / 'train.json').read_text(encoding='utf-8'))


def test_two_gloo_ranks_train_an_adversarial_enhancer(tmp_path):
    config = tiny_enhancer(tmp_path)
    record = train_on_two_ranks(config, tmp_path / 'run')
    assert record['ranks'] == 2 and record['stages'][0]['steps'] == 2
    assert 'image/ssim' in json.loads(
        (tmp_path / 'run/test/metrics.json').read_text(encoding='utf-8')
    )


def tiny_enhancer(folder):
    """Write a config of a CycleGAN of four channels and four scenes."""
    config = Config.fromfile(ROOT / 'configs/enhancers/cyclegan_small.py')
    config.model.generator.update(width=4, blocks=1)
    config.model.critic.update(width=4, layers=2)
    for part in ('source', 'target'):
        config.train_dataloader.dataset[part].update(length=8, keep=1)
    config.train_cfg.stages[0].epochs = 1
    for loader in (config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.length = 2
    config.dump(folder / 'tiny_cyclegan.py')
    return folder / 'tiny_cyclegan.py'


def tiny_both(folder, width):
    """Write a config of a localiser behind a generator so wide; the CycleGAN has four channels."""
    tiny_enhancer(folder)
    config = Config.fromfile(TINY)
    config.first = dict(
        part='enhancer.generator', config='tiny_cyclegan.py', weights=None, share=0.25
    )
    generator = dict(type='pipedet.ResNetGenerator', width=width, blocks=1)
    config.model.enhancer = dict(type='pipedet.Enhancement', generator=generator, crop='proposed')
    config.model.average_views = False
    config.train_cfg.stages[0].epochs = 1
    config.dump(folder / 'both.py')


def test_what_comes_first_is_trained_first_and_handed_on(tmp_path, capsys):
    tiny_both(tmp_path, width=4)
    main(['train', str(tmp_path / 'both.py'), '--work-dir', str(tmp_path / 'run')])
    first = load_file(tmp_path / 'run/first/model.safetensors')
    after = load_file(tmp_path / 'run/model.safetensors')
    handed = [key for key in after if key.startswith('enhancer.generator.')]
    assert handed
    for key in handed:
        assert torch.equal(after[key], first[key.removeprefix('enhancer.')])
    report = json.loads((tmp_path / 'run/test/metrics.json').read_text(encoding='utf-8'))
    assert report['context']['enhanced'] == 'crops at proposed tips'
    with pytest.raises(SystemExit, match='holds a run'):
        main(['train', str(tmp_path / 'both.py'), '--work-dir', str(tmp_path / 'run')])


def test_what_comes_first_is_checked_before_it_is_trained(tmp_path):
    tiny_both(tmp_path, width=8)
    command = ['train', str(tmp_path / 'both.py'), '--work-dir', str(tmp_path / 'run')]
    with pytest.raises(SystemExit, match='another network'):
        main(command)
    with pytest.raises(SystemExit, match='seed 2 is that of the validation'):
        main([*command, '--seed', '2'])
    assert not (tmp_path / 'run/first/model.safetensors').exists()


@pytest.mark.parametrize('seed', ['2', '3'])
def test_domains_keep_clear_of_the_scenes_to_judge_by(tmp_path, seed):
    config = str(tiny_enhancer(tmp_path))
    with pytest.raises(SystemExit, match=f'seed {seed} is that of'):
        main(['train', config, '--work-dir', str(tmp_path / 'run'), '--seed', seed])


def test_an_enhancer_alone_finds_no_tips(tmp_path):
    with pytest.raises(SystemExit, match='finds no tips'):
        main(['latency', str(tiny_enhancer(tmp_path)), '--work-dir', str(tmp_path / 'run')])


def test_labels_are_refused_where_there_are_none(tmp_path):
    config = str(ROOT / 'configs/ours_oracle.py')
    small = ['--cfg-options', 'model.encoder.name=vit_tiny_patch16_224']
    with pytest.raises(SystemExit, match='labelled tips'):
        main(['latency', config, '--work-dir', str(tmp_path), *small])


def test_two_gloo_ranks_train(tmp_path):
    record = train_on_two_ranks(TINY, tmp_path)
    # 16 scenes, 4 a batch, two ranks: two steps each.
    assert record['stages'][0]['steps'] == 2
    assert (
        json.loads((tmp_path / 'test' / 'metrics.json').read_text(encoding='utf-8'))['overall'][
            'images'
        ]
        == 8
    )
