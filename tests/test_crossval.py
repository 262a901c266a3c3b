"""Crossval: folds that leave out whole sessions, and figures over all that was left out."""

import argparse
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from pipedet.commands import crossval
from pipedet.datasets import DatasetError, PipetteImages
from pipedet.datasets.splits import make_folds
from pipedet.evaluation import TipRecord, read_records, summarise, write_report
from pipedet.formats import ImageRecord, write_annotations
from pipedet.registry import DATASETS
from pipedet.visualization import write_picture

CONFIGS = Path(__file__).parent.parent / 'configs'
TINY = CONFIGS / '_base_' / 'tiny.py'
SESSIONS = dict(monday=(0, 1, 2), tuesday=(3, 4), friday=(5,))


def write_frames(folder, sessions):
    """Write images of the sessions that a dict names, {session: numbers}, each with one tip."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    records = []
    for session, numbers in sessions.items():
        for i in numbers:
            image = rng.integers(40, 60, (64, 64), np.uint8)
            tip = 10 + 8 * i, 30
            cv2.line(image, (tip[0], 0), tip, 220, 2)
            write_picture(folder / f'{i}.png', image)
            tips = np.array([tip], np.float32)
            records.append(ImageRecord(file_name=f'{i}.png', tips=tips, session=session))
    write_annotations(folder / 'annotations.json', records)
    return folder


@pytest.fixture
def data(tmp_path):
    return write_frames(tmp_path / 'frames', SESSIONS)


def run(folder, data, *arguments, config=TINY):
    parser = argparse.ArgumentParser()
    crossval.add_arguments(parser)
    paths = [str(config), '--data', str(data), '--work-dir', str(folder)]
    crossval.run(parser.parse_args([*paths, *arguments]))
    return json.loads((folder / 'crossval.json').read_text(encoding='utf-8'))


def sources(dataset):
    """Build a dataset of a fold's config; return its images' names."""
    built = DATASETS.build(dict(dataset, pipeline=[]))
    return {record.file_name for record in built.records}


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that are not run: image i is found i um off; the list is of their arguments."""
    launched = []

    def fake(*arguments, log):
        arguments = [str(argument) for argument in arguments]
        launched.append(arguments)
        if fake.fails(arguments):
            raise RuntimeError('the cat unplugged it')
        config = Config.fromfile(arguments[1])
        seed = int(arguments[arguments.index('--seed') + 1])
        folder = Path(arguments[arguments.index('--work-dir') + 1])
        records = []
        for name in sorted(sources(config.test_dataloader.dataset)):
            session = next(s for s, own in SESSIONS.items() if int(name[0]) in own)
            point = [[int(name[0]) + 10.0 * seed, 0.0]]
            about = dict(frame=0, session=session, subset='frames', pixel_size_um=(1, 1), cnr=None)
            found = dict(true=[[0, 0]], pred=point, scores=[1.0], score_threshold=0.5)
            records.append(TipRecord(source=name, **about, **found))
        write_report(records, folder / 'test', 'a fake', {})
        (folder / 'train.json').write_text(json.dumps(dict(device='abacus')), encoding='utf-8')

    fake.fails = lambda arguments: False
    monkeypatch.setattr(crossval, 'launch', fake)
    return argparse.Namespace(arguments=launched, fake=fake)


def test_folds_keep_groups_whole_and_are_of_equal_size():
    groups = [*'aaaaabbbccddddee']
    folds = make_folds(groups, [True] * 16, None)
    assert len(set(zip(groups, folds, strict=True))) == len(set(folds)) == 5
    folds = make_folds(groups, [True] * 16, 3)
    assert len(set(zip(groups, folds, strict=True))) == 5
    assert sorted(folds.count(fold) for fold in range(3)) == [5, 5, 6]
    for count in (0, 1, 6, -1):
        with pytest.raises(ValueError, match='5 groups with tips'):
            make_folds(groups, [True] * 16, count)


def test_every_fold_has_tips():
    groups = [*'aabbxxxxxy']
    folds = make_folds(groups, [group in 'ab' for group in groups], None)
    assert {folds[0], folds[2]} == {0, 1} and set(folds) == {0, 1}
    with pytest.raises(ValueError, match='1 groups with tips'):
        make_folds([*'aax'], [True, True, False], None)


@pytest.mark.parametrize('leave_out', ['session', 'image'])
def test_what_is_left_out_is_seen_by_the_test_alone(tmp_path, data, trainings, leave_out):
    report = run(tmp_path / 'out', data, '--leave-out', leave_out)
    tested = []
    for arguments in trainings.arguments:
        config = Config.fromfile(arguments[1])
        train, val, test = (
            sources(config[f'{name}_dataloader'].dataset) for name in ('train', 'val', 'test')
        )
        assert train and val and test and train | val | test == {f'{i}.png' for i in range(6)}
        assert len(train) + len(val) + len(test) == 6
        tested += test
        if leave_out == 'session':
            assert test in [{f'{i}.png' for i in own} for own in SESSIONS.values()]
            assert val in [{f'{i}.png' for i in own} for own in SESSIONS.values()]
    assert sorted(tested) == [f'{i}.png' for i in range(6)]
    shared = '2 sessions are trained and tested on at once'
    assert (shared in report['left_out']) == (leave_out == 'image')


def test_figures_are_by_fold_and_over_all_images(tmp_path, data, trainings):
    report = run(tmp_path, data, '--seeds', '0', '1', '--budget', '90s')
    runs, figures = report['runs'], report['figures']
    assert [(r['fold'], r['seed']) for r in runs] == [(f, s) for f in range(3) for s in (0, 1)]
    assert [r['left_out'] for r in runs[::2]] == ['monday', 'tuesday', 'friday']
    assert [r['tip/error_um'] for r in runs] == [1, 11, 3.5, 13.5, 5, 15]
    # Within 3 um are images 0, 1 and 2 of seed 0, all of one session, and none of seed 1.
    assert figures['all 6 images, seed 0']['tip/acc@3um'] == pytest.approx(50)
    assert figures['mean of the folds']['tip/acc@3um'] == pytest.approx(50 / 3)
    assert figures['std of the folds']['tip/acc@3um'] == pytest.approx(np.std([50, 0, 0], ddof=1))
    assert figures['all images, std of the seeds']['tip/error_um'] == pytest.approx(50**0.5)
    records = [
        r for path in sorted(tmp_path.glob('fold_*/seed_0/test/records.json'))
        for r in read_records(path)
    ]  # fmt: skip
    assert figures['all 6 images, seed 0'] == pytest.approx(summarise(records))
    assert report['device'] == 'abacus' and 'budget 90s' in report['trainings']
    for arguments in trainings.arguments:
        assert arguments[arguments.index('--budget') + 1] == '90s' and '--resume' in arguments
    text = (tmp_path / 'crossval.md').read_text(encoding='utf-8')
    assert '| 2 | friday | 1 | 1 | 1 | 0.00 |' in text and '| std of the folds |' in text


def test_a_failed_fold_loses_nothing_and_is_tried_again(tmp_path, data, trainings):
    trainings.fake.fails = lambda arguments: 'fold_01' in arguments[1]
    with pytest.raises(RuntimeError, match='1 of 3 trainings failed.*cat'):
        run(tmp_path, data)
    report = json.loads((tmp_path / 'crossval.json').read_text(encoding='utf-8'))
    assert [bool(r['fault']) for r in report['runs']] == [False, True, False]
    assert 'all 4 images, seed 0' in report['figures']
    text = (tmp_path / 'crossval.md').read_text(encoding='utf-8')
    assert '**Fold 1, seed 0 has no figures**: the cat unplugged it' in text
    trainings.fake.fails = lambda arguments: False
    report = run(tmp_path, data)
    assert len(trainings.arguments) == 4 and 'fold_01' in trainings.arguments[3][1]
    assert 'all 6 images, seed 0' in report['figures']


def test_folds_of_other_labels_or_options_are_not_mixed(tmp_path, data, trainings):
    run(tmp_path / 'out', data)
    with pytest.raises(ValueError, match='another budget: choose'):
        run(tmp_path / 'out', data, '--budget', '1m')
    with pytest.raises(ValueError, match='another config'):
        run(tmp_path / 'out', data, '--cfg-options', 'model.max_tips=4')
    path = data / 'annotations.json'
    path.write_text(path.read_text(encoding='utf-8').replace('30.0', '31.0'), encoding='utf-8')
    with pytest.raises(ValueError, match='another labels'):
        run(tmp_path / 'out', data)
    assert len(trainings.arguments) == 3


def test_the_one_session_to_train_on_is_parted_by_image(tmp_path, trainings):
    data = write_frames(tmp_path / 'frames', dict(monday=(0, 1, 2), tuesday=(3, 4)))
    report = run(tmp_path / 'out', data)
    assert all('the one session to train on' in r['left_out'] for r in report['runs'])
    config = Config.fromfile(trainings.arguments[1][1])
    parts = [sources(config[f'{n}_dataloader'].dataset) for n in ('train', 'val', 'test')]
    assert parts[0] | parts[1] == {'0.png', '1.png', '2.png'} and not parts[0] & parts[1]
    assert parts[2] == {'3.png', '4.png'}


def test_copies_in_two_sessions_are_refused(tmp_path, data, trainings):
    (data / '5.png').write_bytes((data / '0.png').read_bytes())
    with pytest.raises(DatasetError, match='0.png = 5.png'):
        run(tmp_path / 'out', data)
    with pytest.raises(DatasetError, match='not a folder'):
        run(tmp_path / 'out', tmp_path / 'nowhere')


def kinds(pipeline):
    return [str(transform['type']).split('.')[-1].strip("'>") for transform in pipeline]


def test_images_take_the_place_of_scenes_and_stand_beside_them(tmp_path, data, trainings):
    expected = dict(
        quickstart=['Resize', 'RandomScale', 'Warp', 'PackTips'],
        ours=['Resize', 'Warp', 'PackTips'],
    )
    for name, pipeline in expected.items():
        run(tmp_path / name, data, config=CONFIGS / f'{name}.py')
        dataset = Config.fromfile(trainings.arguments[-1][1]).train_dataloader.dataset
        assert kinds(dataset.pipeline) == pipeline and dataset.root == str(data)
    first = Config.fromfile(trainings.arguments[-1][1]).first.config
    assert Path(first) == CONFIGS / 'enhancers' / 'cyclegan.py'
    run(tmp_path / 'labelled', data, config=CONFIGS / 'labelled.py')
    scenes, images = Config.fromfile(trainings.arguments[-1][1]).train_dataloader.dataset.sets
    assert scenes.length == 1200 and images.root == str(data) and len(images.groups) == 2
    assert kinds(images.pipeline)[:3] == ['ToPixelSize', 'RandomFlip', 'RandomScale']


def test_the_labelled_config_trains_on_a_folder(data):
    config = Config.fromfile(CONFIGS / 'labelled.py')
    roots = ['train_dataloader.dataset.sets.1', 'val_dataloader.dataset', 'test_dataloader.dataset']
    config.merge_from_dict({f'{key}.root': str(data) for key in roots})
    loaders = (config[f'{name}_dataloader'].dataset for name in ('train', 'val', 'test'))
    train, val, test = map(DATASETS.build, loaders)
    assert len(train) - 1200 + len(val) + len(test) == 6
    sample = train[1200]
    assert sample['inputs'].shape == (1, 256, 256) and len(sample['data_samples'].gt_tips.points)


def test_groups_choose_sessions_or_images(data):
    own = dict(root=data, annotations='annotations.json', pipeline=[], seed=0, subset='rig')
    chosen = PipetteImages(**own, groups=['tuesday', 'friday'])
    assert [record.file_name for record in chosen.records] == ['3.png', '4.png', '5.png']
    chosen = PipetteImages(**own, groups=['5.png#0', '0.png#0'], split_by='image')
    assert [record.file_name for record in chosen.records] == ['0.png', '5.png']
    with pytest.raises(DatasetError, match=r"no session is named \['sunday'\].*'friday', 'monday'"):
        PipetteImages(**own, groups=['monday', 'sunday'])


def test_a_fold_really_trains(tmp_path, data, monkeypatch):
    def only_first(*arguments, log):
        if 'fold_01' in str(log):
            raise RuntimeError('enough for a test')
        launch(*arguments, log=log)

    launch = crossval.launch
    monkeypatch.setattr(crossval, 'launch', only_first)
    options = ['--cfg-options', 'train_cfg.stages.0.epochs=1', 'model.average_views=False']
    with pytest.raises(RuntimeError, match='1 of 2 trainings failed.*enough'):
        run(tmp_path / 'out', data, '--folds', '2', '--pixel-size-um', '0.8', *options)
    report = json.loads((tmp_path / 'out' / 'crossval.json').read_text(encoding='utf-8'))
    folder = tmp_path / 'out' / 'fold_00' / 'seed_0'
    records = read_records(folder / 'test' / 'records.json')
    assert [record.source for record in records] == ['0.png', '1.png', '2.png']
    assert all(r.pixel_size_um == (0.8, 0.8) and len(r.pred) for r in records)
    assert [len(r.true) for r in records] == [1, 1, 1]
    pooled = report['figures']['all 3 images, seed 0']
    assert pooled == pytest.approx(summarise(records)) and pooled['tips'] == 3
    seen = json.loads((folder / 'data.json').read_text(encoding='utf-8'))
    assert all('frames: ' in text for text in seen.values())
    with open(folder / 'split.csv', encoding='utf-8') as file:
        split = [(row['image'], row['split']) for row in csv.DictReader(file)]
    assert [image for image, part in split if part == 'test'] == ['0.png', '1.png', '2.png']
    assert not {i for i, part in split if part == 'train'} & {i for i, p in split if p == 'test'}
