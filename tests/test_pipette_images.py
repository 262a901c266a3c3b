"""PipetteImages: every fault shows at construction, sessions stay whole, samples are complete."""

import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from mmengine.config import Config

from pipedet.commands.common import build_runner
from pipedet.datasets import DatasetError, PackTips, PipetteImages, Resize, Warp
from pipedet.datasets.splits import find_leaks, split_groups
from pipedet.formats import AnnotationError, ImageReadError, ImageRecord, write_annotations
from pipedet.registry import DATASETS

SHAPE = (24, 32)
TINY = Path(__file__).parent.parent / 'configs' / '_base_' / 'tiny.py'


def write_image(path, seed=0, shape=SHAPE):
    path.parent.mkdir(exist_ok=True, parents=True)
    image = np.random.default_rng(seed).integers(0, 4096, shape, dtype=np.uint16)
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    return image


def tips(*pairs):
    return np.array(pairs, np.float32).reshape(-1, 2)


def build(root, **kwargs):
    defaults = dict(root=root, annotations='tips.csv', pipeline=[], seed=0, subset='rig')
    return PipetteImages(**(defaults | kwargs))


@pytest.fixture
def root(tmp_path):
    """Ten images of five sessions, each with one tip."""
    root = tmp_path / 'data'
    names = [f's{i // 2}/{i}.png' for i in range(10)]
    for i, name in enumerate(names):
        write_image(root / name, i)
    records = [
        ImageRecord(file_name=name, tips=tips((i, 5)), session=name[:2])
        for i, name in enumerate(names)
    ]
    write_annotations(root / 'tips.csv', records)
    return root


def append(root, *rows):
    with (root / 'tips.csv').open('a', encoding='utf-8') as file:
        file.write(''.join(f'{row},,,,\n' for row in rows))


def test_a_sample(root):
    pipeline = [dict(type=Resize, size=(48, 32)), dict(type=Warp), dict(type=PackTips)]
    config = dict(type=PipetteImages, root=str(root), annotations='tips.csv', seed=0)
    dataset = DATASETS.build(dict(config, pipeline=pipeline, subset='rig', pixel_size_um=0.5))
    assert len(dataset) == 10
    sample = dataset[3]
    assert sample['inputs'].shape == (1, 48, 32)
    meta = sample['data_samples']
    assert (meta.source, meta.session, meta.subset) == ('s1/3.png', 's1', 'rig')
    assert meta.pixel_size_um == (0.5, 0.5) and meta.frame == 0
    assert meta.ori_shape == SHAPE and meta.img_shape == (48, 32)
    np.testing.assert_allclose(meta.gt_tips.points, [[3, 10.5]], atol=1e-5)


def test_without_a_pipeline_the_file_s_own_pixels(root):
    results = build(root)[4]
    image = write_image(root / 'copy.png', 4)
    assert results['image'].dtype == np.uint16 and np.array_equal(results['image'], image)
    assert results['pixel_size_um'] is None and results['tip_fields'] == {}


def test_unlisted_images_and_empty_rows_are_negatives(root):
    write_image(root / 'dark' / 'a.png')
    write_image(root / 'b.png')
    (root / '._b.png').write_bytes(b'resource fork')
    append(root, 'b.png,,')
    dataset = build(root)
    assert len(dataset) == 12 and dataset.skipped == []
    described = dataset.describe()
    for part in ('12 images', '10 tips', '2 negatives', '7 sessions', '0 skipped'):
        assert part in described
    assert '\n' not in described
    assert len(build(root, unlisted_are_negative=False)) == 11


FAULTS = {
    'missing': ('gone.png,1,1', 'no such file'),
    'outside': ('x.png,32,5', r'tip \[32.0, 5.0\] outside 32 x 24'),
    'negative': ('x.png,-1,5', 'outside'),
    'swapped': ('x.png,5,30', 'outside'),
    'nan': ('x.png,nan,5', 'finite number'),
    'written otherwise': ('./s9\\x.png,nan,5', 'finite number'),
    'parent': ('../x.png,1,1', r"has '..'"),
    'absolute': ('/etc/x.png,1,1', 'absolute'),
    'url': ('https://host/x.png,1,1', 'URL'),
    'link': ('link.png,1,1', 'leaves the root'),
    'linked folder': ('far/x.png,1,1', 'leaves the root'),
    'type': ('x.pkl,1,1', 'suffix'),
    'broken': ('broken.png,1,1', 'damaged'),
    'bomb': ('bomb.png,1,1', 'crop'),
    'stack': ('stack.tif,1,1', '3 pages'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_each_fault_raises_or_is_listed(root, name):
    row, reason = FAULTS[name]
    outside = root.parent / 'elsewhere'
    write_image(outside / 'x.png')
    if row.startswith('x.png'):
        write_image(root / 'x.png')
    elif name == 'written otherwise':
        write_image(root / 's9' / 'x.png')
    elif name == 'link':
        (root / 'link.png').symlink_to(outside / 'x.png')
    elif name == 'linked folder':
        (root / 'far').symlink_to(outside)
    elif name == 'broken':
        (root / 'broken.png').write_bytes(b'<html>')
    elif name == 'bomb':
        write_image(root / 'bomb.png')
        data = bytearray((root / 'bomb.png').read_bytes())
        data[16:24] = (9000).to_bytes(4, 'big') * 2
        header = bytes(data[12:29])
        data[29:33] = zlib.crc32(header).to_bytes(4, 'big')
        (root / 'bomb.png').write_bytes(data)
    elif name == 'stack':
        tifffile.imwrite(
            root / 'stack.tif', np.zeros((3, 8, 8), np.uint8), photometric='minisblack'
        )
    append(root, row)
    with pytest.raises(DatasetError, match=f'1 faults:\n.*tips.csv:12: .*{reason}'):
        build(root, strict=True)
    dataset = build(root)
    assert len(dataset.skipped) == 1 and 'tips.csv:12' in dataset.skipped[0]
    # Nothing else is lost, and a faulty image does not come back as a negative.
    assert len(dataset) == 10 and '0 negatives' in dataset.describe()


def test_all_faults_at_once_in_one_error(root):
    append(root, 'gone.png,1,1', 's0/0.png,99,1', '../y.png,1,1')
    with pytest.raises(DatasetError) as raised:
        build(root, strict=True)
    for part in ('3 faults', 'gone.png', 's0/0.png', '../y.png'):
        assert part in str(raised.value)
    assert len(build(root)) == 9


def test_a_fault_counts_for_all_the_ways_to_write_a_name(root):
    write_image(root / 'x.png')
    append(root, 'x.png,1,2', './x.png,oops,2')  # a tip of it is lost: so is the image
    assert len(build(root)) == 10


@pytest.mark.parametrize('name', ['s9\\x.png', './s9/x.png', ['s9/x.png'], None])
def test_a_faulty_coco_image_is_no_negative(root, name):
    write_image(root / 's9' / 'x.png')
    images = [dict(id=0, file_name='s0/0.png'), dict(id=1, file_name=name, frame=-1)]
    data = dict(images=images, annotations=[], categories=[])
    (root / 'tips.json').write_text(json.dumps(data), encoding='utf-8')
    listed = isinstance(name, str)  # of what is no name nobody knows which image was meant
    dataset = build(root, annotations='tips.json')
    assert len(dataset.skipped) == 1 and len(dataset) == (10 if listed else 11)


@pytest.fixture
def foldered(tmp_path):
    """A root with images/s/a.png, images/b.png and, beside the folder, far/c.png."""
    for i, name in enumerate(('images/s/a.png', 'images/b.png', 'far/c.png')):
        write_image(tmp_path / name, i)
    return tmp_path


def write_labels(root, names, suffix='.csv'):
    records = [ImageRecord(file_name=name, tips=tips((3, 5))) for name in names]
    write_annotations(root / f'tips{suffix}', records)
    return dict(root=root, annotations=f'tips{suffix}')


@pytest.mark.parametrize('suffix', ['.csv', '.json'])
@pytest.mark.parametrize('name', ['s/a.png', 'images/s/a.png', './images\\s\\a.png'])
def test_names_from_the_root_and_from_the_image_folder_are_one(foldered, name, suffix):
    dataset = build(**write_labels(foldered, [name], suffix))
    assert dataset.skipped == []
    found = {sample['source']: len(sample['tips']) for sample in dataset}
    assert found == {'images/s/a.png': 1, 'images/b.png': 0}
    assert {sample['session'] for sample in dataset} == {'s/a.png', 'b.png'}


def test_an_images_folder_in_the_image_folder_goes_first(foldered):
    write_image(foldered / 'images' / 'images' / 'b.png')
    dataset = build(**write_labels(foldered, ['images/b.png']))
    tipped = [sample['source'] for sample in dataset if len(sample['tips'])]
    assert tipped == ['images/images/b.png'] and len(dataset) == 3


def test_a_file_beside_the_image_folder_is_found_but_none_outside_the_root(foldered):
    write_image(foldered.parent / 'outside.png')
    (foldered / 'far' / 'link.png').symlink_to(foldered.parent / 'outside.png')
    dataset = build(**write_labels(foldered, ['far/c.png', 'far/link.png']))
    assert [s['source'] for s in dataset if len(s['tips'])] == ['far/c.png']
    assert np.array_equal(dataset[0]['image'], write_image(foldered / 'far' / 'c.png', 2))
    assert len(dataset.skipped) == 1 and 'leaves the root' in dataset.skipped[0]


def test_a_faulty_row_named_from_the_root_makes_no_negative(foldered):
    labels = write_labels(foldered, ['b.png'])
    append(foldered, 'images/s/a.png,oops,1')
    dataset = build(**labels)
    assert [sample['source'] for sample in dataset] == ['images/b.png']
    assert len(dataset.skipped) == 1


def test_an_image_named_in_two_ways_is_left_out(foldered):
    dataset = build(**write_labels(foldered, ['b.png', 's/a.png', 'images/s/a.png']))
    assert [sample['source'] for sample in dataset] == ['images/b.png']
    assert len(dataset.skipped) == 2
    assert "['images/s/a.png', 's/a.png'] are one file" in dataset.skipped[0]


MISNAMED = {
    'case': 's/a.PNG',
    'case of a folder': 'S/a.png',
    'extension': 's/a.tif',
    'from the root': 'Images/s/A.jpeg',
    'no extension': 's/a',
}


@pytest.mark.parametrize('suffix', ['.csv', '.json'])
@pytest.mark.parametrize('case', MISNAMED)
def test_a_misnamed_image_is_no_negative_but_an_error(foldered, case, suffix):
    labels = write_labels(foldered, ['b.png', MISNAMED[case]], suffix)
    for strict in (False, True):
        with pytest.raises(DatasetError, match='2 faults') as raised:
            build(**labels, strict=strict)
        for part in ("'s/a.png'", MISNAMED[case].removeprefix('Images/'), 'make the names equal'):
            assert part in str(raised.value)
    # Where what no row names is no negative, the missing file is a fault as any other.
    assert len(build(**labels, unlisted_are_negative=False)) == 1


def test_dots_and_accents_of_a_misnamed_image(tmp_path):
    write_image(tmp_path / 'cell.1.png')
    write_image(tmp_path / 'a\u0308.png')
    with pytest.raises(DatasetError, match='4 faults'):
        build(**write_labels(tmp_path, ['cell.1', '\u00e4.png']))


def test_an_image_like_one_that_is_there_is_a_negative(foldered):
    write_image(foldered / 'images' / 'b.bmp.png')
    write_image(foldered / 'images' / 's' / 'A.png')  # another file, where case tells apart
    labels = write_labels(foldered, ['s/a.png', 'b.png', 'gone.png'])
    dataset = build(**labels)
    assert len(dataset) == len(list((foldered / 'images').rglob('*.png')))
    assert len(dataset.skipped) == 1


def test_damaged_pixels_stop_a_strict_reader(root):
    write_image(root / 's9' / 'x.png')  # without a tip: reading it is left to the work itself
    append(root, 's9/x.png,,')
    path = root / 's9' / 'x.png'
    path.write_bytes(path.read_bytes()[:-40])  # the header still reads
    lenient, strict = build(root), build(root, strict=True)
    assert isinstance(lenient.load(10, None)['image'], ImageReadError)
    with pytest.raises(DatasetError, match='x.png'):
        strict.load(10, None)


def test_unlisted_damaged_images_are_named(root):
    (root / 'bad.png').write_bytes(b'')
    dataset = build(root)
    assert (
        len(dataset) == 10 and 'bad.png' in dataset.skipped[0] and '0 bytes' in dataset.skipped[0]
    )


def test_sizes_that_disagree_and_tips_given_twice(root):
    write_image(root / 'x.png')
    write_image(root / 'y.png')
    record = dict(tips=tips((1, 1)))
    records = [
        ImageRecord(file_name='x.png', width=512, height=512, **record),
        ImageRecord(file_name='y.png', tips=tips((1, 1), (1, 1))),
        ImageRecord(file_name='s0/0.png', width=32, height=24, **record),
    ]
    write_annotations(root / 'tips.json', records)
    dataset = build(root, annotations='tips.json', unlisted_are_negative=False)
    assert len(dataset) == 1
    assert 'annotated as 512 x 512' in dataset.skipped[0]
    assert 'the same tip twice' in dataset.skipped[1]


def test_where_no_label_is_left_the_images_are_no_negatives(root):
    rows = [f'elsewhere/{i}.png,{i},5' for i in range(10)]
    (root / 'tips.csv').write_text('\n'.join(['image,x,y', *rows]), encoding='utf-8')
    with pytest.raises(DatasetError, match='elsewhere/0.png'):
        build(root)
    (root / 'tips.csv').write_text('image,x,y\ns0/0.png,"1,5",5\n', encoding='utf-8')
    with pytest.raises(DatasetError, match='1,5'):
        build(root)


def test_nothing_left_is_an_error(tmp_path):
    (tmp_path / 'tips.csv').write_text('image,x,y\ngone.png,1,1\n', encoding='utf-8')
    with pytest.raises(DatasetError, match='gone.png'):
        build(tmp_path)
    for name in ('tips.json', 'tips.pkl'):
        with pytest.raises(AnnotationError):
            build(tmp_path, annotations=name)
    with pytest.raises(DatasetError, match='not a folder'):
        build(tmp_path, image_folder='..')


def test_an_image_that_does_not_decode_is_not_substituted(root):
    dataset = build(root)
    damage(root / 's1' / '3.png')
    sample = dataset[3]
    assert sample['inputs'] is None and '3.png' in sample['data_samples'].fault
    assert sample['data_samples'].gt_tips.points.tolist() == [[3, 5]]


def damage(path):
    """Cut the pixels short: the header still reads."""
    path.write_bytes(path.read_bytes()[:-40])


@pytest.fixture
def hundred(tmp_path):
    """A config that trains on a hundred images, and tests on them."""
    config = Config.fromfile(TINY)
    config.work_dir = str(tmp_path / 'run')
    root = tmp_path / 'data'
    for i in range(100):
        write_image(root / f'{i}.png', i)
    records = [ImageRecord(file_name=f'{i}.png', tips=tips((9, 5))) for i in range(100)]
    write_annotations(root / 'tips.csv', records)
    images = dict(
        type='pipedet.PipetteImages', root=str(root), annotations='tips.csv', seed=0, subset='rig'
    )
    images['pipeline'] = config.predict_pipeline
    images['pipeline'][0]['size'] = 64
    config.train_dataloader.dataset = config.val_dataloader.dataset = images
    config.test_dataloader.dataset = images
    config.train_cfg.stages[0].epochs = 1
    return config


def test_one_unreadable_image_in_a_hundred_is_left_out_and_counted(hundred):
    runner = build_runner(hundred)
    damage(runner.train_loop.dataloader.dataset.folder / '7.png')
    runner.train()
    assert list(runner.train_loop.unread) == ['7.png'] and runner.iter == 25
    metrics = runner.test()
    assert metrics['images'] == 100 and metrics['tips'] == 100
    records = runner.test_loop.evaluator.metrics[0].records
    assert [record.source for record in records if record.failed] == ['7.png']


def test_a_batch_without_a_readable_image_takes_no_step(hundred):
    hundred.train_dataloader.batch_size = 1
    runner = build_runner(hundred)
    damage(runner.train_loop.dataloader.dataset.folder / '7.png')
    runner.train()
    assert runner.iter == 100


def test_more_than_one_unreadable_image_in_a_hundred_ends_the_run(hundred):
    runner = build_runner(hundred)
    for name in ('7.png', '11.png'):
        damage(runner.train_loop.dataloader.dataset.folder / name)
    with pytest.raises(DatasetError, match='2 of 100 training images'):
        runner.train()


def test_image_folder_stack_and_scale(tmp_path):
    (tmp_path / 'images').mkdir()
    stack = np.random.default_rng(0).integers(0, 9, (4, 24, 32), dtype=np.int16)
    kinds = dict(imagej=True, resolution=(2.0, 2.5), metadata={'unit': 'micron'})
    tifffile.imwrite(tmp_path / 'images' / 'a.tif', stack, **kinds)
    tip = dict(file_name='a.tif', tips=tips((1, 1), (2, 3)))
    records = [
        ImageRecord(frame=1, z_um=3.5, **tip),
        ImageRecord(frame=3, pixel_size_um=(0.3, 0.3), **tip),
        ImageRecord(frame=4, **tip),
    ]
    write_annotations(tmp_path / 'tips.csv', records)
    dataset = build(tmp_path, image_folder='images')
    assert len(dataset) == 2 and 'no frame 4' in dataset.skipped[0]
    one, other = dataset[0], dataset[1]
    assert np.array_equal(one['image'], stack[1]) and np.array_equal(other['image'], stack[3])
    assert one['source'] == 'images/a.tif' and (one['frame'], other['frame']) == (1, 3)
    assert one['session'] == other['session'] == 'a.tif'
    assert one['tip_fields']['z_um'].tolist() == [3.5, 3.5] and other['tip_fields'] == {}
    assert one['pixel_size_um'] == pytest.approx((0.5, 0.4))
    assert other['pixel_size_um'] == (0.3, 0.3)
    explicit = build(tmp_path, image_folder='images', pixel_size_um=(0.7, 0.6))
    assert explicit[0]['pixel_size_um'] == explicit[1]['pixel_size_um'] == (0.7, 0.6)
    with pytest.raises(AnnotationError, match='pixel_size_um'):
        build(tmp_path, image_folder='images', pixel_size_um=5e-7)


def test_a_given_scale_asks_no_file_for_one(tmp_path, caplog):
    wrong = dict(imagej=True, resolution=(2e6, 2e6), metadata={'unit': 'micron'})
    tifffile.imwrite(tmp_path / 'a.tif', np.zeros((24, 32), np.uint8), **wrong)
    labels = write_labels(tmp_path, ['a.tif'])
    assert build(**labels, pixel_size_um=0.5)[0]['pixel_size_um'] == (0.5, 0.5)
    assert caplog.messages == []
    assert build(**labels)[0]['pixel_size_um'] is None
    assert ['a.tif' in message for message in caplog.messages] == [True]


@pytest.mark.parametrize('split_by', ['session', 'image'])
def test_splits_are_disjoint_and_whole(root, split_by):
    def sources(split, **kwargs):
        dataset = build(root, split=split, split_by=split_by, **kwargs)
        return [dataset[i]['source'] for i in range(len(dataset))]

    parts = [sources(split) for split in ('train', 'val', 'test')]
    assert sorted(sum(parts, [])) == [f's{i // 2}/{i}.png' for i in range(10)]
    assert min(map(len, parts)) > 0 and len(parts[0]) > len(parts[1])
    # The same whatever the augmentation's seed, and another for another split_seed.
    assert sources('train') == parts[0] == sources('train', seed=5)
    assert any(sources('train', split_seed=s) != parts[0] for s in range(1, 6))
    sessions = [{source[:2] for source in part} for part in parts]
    if split_by == 'session':
        assert sum(map(len, sessions)) == 5


def test_one_file_in_two_sessions_cannot_be_split(tmp_path):
    tifffile.imwrite(tmp_path / 'a.tif', np.zeros((4, 24, 32), np.uint8), photometric='minisblack')
    records = [ImageRecord(file_name='a.tif', frame=i, session=str(i)) for i in range(4)]
    write_annotations(tmp_path / 'tips.csv', records)
    with pytest.raises(DatasetError, match='a.tif'):
        build(tmp_path, split='train')
    assert len(build(tmp_path, split='train', split_by='image')) > 0


def test_a_split_without_any_session_is_an_error(root):
    with pytest.raises(DatasetError, match='no image is left for it, of . sessions'):
        build(root, split='test', fractions=(0.5, 0.5, 0))
    with pytest.raises(DatasetError, match='split'):
        build(root, split='tset')


def test_split_groups_reach_their_shares():
    groups = [f'g{i % 40}' for i in range(400)]
    splits = split_groups(groups, (0.7, 0.15, 0.15), seed=0)
    shares = [splits.count(name) / 400 for name in ('train', 'val', 'test')]
    np.testing.assert_allclose(shares, (0.7, 0.15, 0.15), atol=0.03)
    assert find_leaks(groups, splits) == []
    assert find_leaks(['a', 'a', 'b'], ['train', 'val', 'val']) == ['a']
    order = np.random.default_rng(1).permutation(400)
    shuffled = split_groups([groups[i] for i in order], (0.7, 0.15, 0.15), seed=0)
    assert shuffled == [splits[i] for i in order]
    with pytest.raises(ValueError, match='sum to 1'):
        split_groups(groups, (0.7, 0.2, 0.2), seed=0)


def test_coco_with_nan_and_duplicate_keys(root):
    entry = dict(id=1, file_name='s0/0.png')
    bad = dict(id=1, image_id=1, keypoints=[float('nan'), 1, 2])
    content = dict(images=[entry, dict(id=2, file_name='s0/1.png')], annotations=[bad])
    (root / 'tips.json').write_text(json.dumps(content), encoding='utf-8')
    dataset = build(root, annotations='tips.json', unlisted_are_negative=False)
    assert len(dataset) == 1 and 'annotations[0]' in dataset.skipped[0]
    (root / 'tips.json').write_text(
        '{"images": [], "images": [], "annotations": []}', encoding='utf-8'
    )
    with pytest.raises(AnnotationError, match='twice'):
        build(root, annotations='tips.json')
