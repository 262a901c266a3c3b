"""Annotation files: what is written reads back, and each fault is one error with its place."""

import json

import numpy as np
import pytest

from pipedet.formats import (
    AnnotationError,
    ImageRecord,
    read_annotations,
    read_coco,
    read_tip_csv,
    write_annotations,
)

KEYS = ('file_name', 'frame', 'session', 'pixel_size_um', 'z_um')


@pytest.fixture
def records():
    tips = np.random.default_rng(0).uniform(0, 500, (4, 2)).astype(np.float32)
    known = dict(session='mouse 1, slice "b"', pixel_size_um=(0.5, 0.3), z_um=-12.5)
    return [
        ImageRecord(file_name='a.png', tips=tips, **known),
        ImageRecord(file_name='sub/ä, b.tif', frame=0, tips=tips[:1], pixel_size_um=(0.4, 0.4)),
        ImageRecord(file_name='sub/ä, b.tif', frame=7),
        ImageRecord(file_name='empty.png', session='2'),
    ]


@pytest.mark.parametrize('suffix', ['.json', '.csv'])
def test_round_trip(tmp_path, records, suffix):
    path = tmp_path / f'tips{suffix}'
    write_annotations(path, records)
    back = read_annotations(path)
    assert len(back) == len(records)
    for one, other in zip(records, back, strict=True):
        assert [getattr(one, key) for key in KEYS] == [getattr(other, key) for key in KEYS]
        assert other.tips.dtype == np.float32 and other.tips.shape == one.tips.shape
        assert np.array_equal(one.tips, other.tips)
        assert other.where.startswith(str(path))


def test_coco_keeps_sizes_and_writes_short_numbers(tmp_path):
    tips = np.array([[10.3, 4.0]], np.float32)
    path = tmp_path / 'tips.json'
    write_annotations(path, [ImageRecord(file_name='a.png', tips=tips, width=64, height=48)])
    assert '10.3,' in path.read_text(encoding='utf-8')
    assert (read_coco(path)[0].width, read_coco(path)[0].height) == (64, 48)


def coco(tmp_path, images=({'id': 1, 'file_name': 'a.png'},), annotations=(), **others):
    path = tmp_path / 'tips.json'
    content = dict(images=list(images), annotations=list(annotations), **others)
    path.write_text(json.dumps(content), encoding='utf-8')  # which writes NaN, as many exporters do
    return path


def keypoints(*values, image_id=1, **others):
    return dict(id=1, image_id=image_id, category_id=0, keypoints=list(values), **others)


def test_coco_visibility_and_several_keypoints(tmp_path):
    several = keypoints(1, 2, 2, 0, 0, 0, 5, 6, 1, score=0.5)
    record = read_coco(coco(tmp_path, annotations=[several, keypoints(8, 9, 2)]))[0]
    assert record.tips.tolist() == [[1, 2], [5, 6], [8, 9]]
    categories = [dict(id=0, name='pipette', keypoints=['tip', 'base'])]
    path = coco(tmp_path, annotations=[keypoints(1, 2, 2, 50, 60, 2)], categories=categories)
    assert read_coco(path)[0].tips.tolist() == [[1, 2]]


@pytest.mark.parametrize('v', [2, 2.0, 1.0])
def test_coco_visibility_may_be_a_float(tmp_path, v):
    path = coco(tmp_path, annotations=[keypoints(1, 2, v, 3, 4, 0.0)])
    assert read_coco(path)[0].tips.tolist() == [[1, 2]]


CATEGORIES = [
    dict(id=0, name='pipette', keypoints=['tip']),
    dict(id=1, name='soma'),
    dict(id=2, name='cell', keypoints=[]),
]


def test_a_pipette_without_its_tip_is_a_fault_where_others_have_theirs(tmp_path):
    box = dict(id=2, image_id=1, category_id=0, bbox=[1, 2, 3, 4])
    path = coco(tmp_path, annotations=[keypoints(1, 2, 2), box], categories=[dict(id=0, name='p')])
    with pytest.raises(AnnotationError, match='keypoints'):
        read_coco(path)


@pytest.mark.parametrize('empty', [{}, dict(keypoints=[]), dict(keypoints=None)])
@pytest.mark.parametrize('category', [1, 2])
def test_coco_boxes_of_other_objects_cost_nothing(tmp_path, category, empty):
    box = dict(id=2, image_id=1, category_id=category, bbox=[1, 2, 3, 4], **empty)
    annotations = [box, keypoints(1, 2, 2), box]
    record = read_coco(coco(tmp_path, annotations=annotations, categories=CATEGORIES))[0]
    assert record.tips.tolist() == [[1, 2]]
    alone = read_coco(coco(tmp_path, annotations=[box], categories=CATEGORIES))
    assert [len(record.tips) for record in alone] == [0]


@pytest.mark.parametrize('categories', [CATEGORIES, [], CATEGORIES[1:], None])
def test_coco_pipettes_without_keypoints_are_a_fault(tmp_path, categories):
    # Without a keypoint in the file, even boxes of a category without any may be the pipettes.
    category = 1 if categories == CATEGORIES[1:] else 0
    box = dict(id=1, image_id=1, category_id=category, bbox=[1, 2, 3, 4])
    others = {} if categories is None else dict(categories=categories)
    problems = []
    assert read_coco(coco(tmp_path, annotations=[box], **others), problems) == []
    assert len(problems) == 1 and problems[0].file_name == 'a.png'
    assert "annotations[0]: no 'keypoints'" in str(problems[0])


@pytest.mark.parametrize(
    ('extra', 'session'),
    [
        (dict(session='s', group='g', scene='c'), 's'),
        (dict(group='g', scene=3), 'g'),
        (dict(scene=3), '3'),
        (dict(session=None), None),
    ],
)
def test_coco_session(tmp_path, extra, session):
    path = coco(tmp_path, images=[dict(id=1, file_name='a.png', unknown=[1], **extra)])
    assert read_coco(path)[0].session == session


@pytest.mark.parametrize(
    ('image', 'annotation', 'where', 'reason'),
    [
        ({}, keypoints(float('nan'), 2, 2), r'annotations\[0\]', 'finite'),
        ({}, keypoints(1, float('inf'), 2), r'annotations\[0\]', 'finite'),
        ({}, keypoints('left', 2, 2), r'annotations\[0\]', "'left'"),
        ({}, keypoints(True, 2, 2), r'annotations\[0\]', 'True'),
        ({}, keypoints(1, 2), r'annotations\[0\]', '2 keypoint numbers'),
        ({}, keypoints(), r'annotations\[0\]', '0 keypoint numbers'),
        ({}, keypoints(1, 2, 7), r'annotations\[0\]', 'v is 7'),
        ({}, keypoints(1, 2, 2.5), r'annotations\[0\]', 'v is 2.5'),
        ({}, keypoints(1, 2, 3.0), r'annotations\[0\]', 'v is 3'),
        ({}, keypoints(1, 2, True), r'annotations\[0\]', 'v is True'),
        ({}, keypoints(1, 2, float('nan')), r'annotations\[0\]', 'v is nan'),
        ({}, keypoints(1, 2, 2, image_id=5), r'annotations\[0\]', 'id 5'),
        ({}, keypoints(1, 2, 2, image_id=[5]), r'annotations\[0\]', 'no image has id'),
        ({'file_name': '/etc/a.png'}, None, r'images\[0\]', 'absolute'),
        ({'file_name': '../a.png'}, None, r'images\[0\]', r'\.\.'),
        ({'file_name': 'b\\..\\..\\a.png'}, None, r'images\[0\]', r'\.\.'),
        ({'file_name': 'http://x/a.png'}, None, r'images\[0\]', 'URL'),
        ({'file_name': 'C:\\a.png'}, None, r'images\[0\]', 'absolute'),
        ({'file_name': '\\\\rig\\a.png'}, None, r'images\[0\]', 'absolute'),
        ({'file_name': 3}, None, r'images\[0\]', 'file_name is 3'),
        ({'pixel_size_um': 5e-7}, None, r'images\[0\]', 'pixel_size_um'),
        ({'pixel_size_um': [0.5, 0.5, 2]}, None, r'images\[0\]', 'pixel_size_um'),
        ({'z_um': float('nan')}, None, r'images\[0\]', 'z_um'),
        ({'frame': -1}, None, r'images\[0\]', 'frame'),
        ({'width': 10.5}, None, r'images\[0\]', 'width'),
    ],
)
def test_each_coco_fault_is_named_and_nothing_else_lost(tmp_path, image, annotation, where, reason):
    images = [{'id': 1, 'file_name': 'a.png', **image}, {'id': 2, 'file_name': 'good.png'}]
    annotations = [annotation] if annotation else []
    path = coco(tmp_path, images, annotations + [keypoints(3, 4, 2, image_id=2)])
    with pytest.raises(AnnotationError, match=f'tips.json: {where}: .*{reason}'):
        read_coco(path)
    problems = []
    kept = {record.file_name: record for record in read_coco(path, problems)}
    assert len(problems) == 1 and kept['good.png'].tips.tolist() == [[3, 4]]
    if 'no image' not in problems[0].reason:
        assert list(kept) == ['good.png']


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('{"images": [], "images": [], "annotations": []}', "key 'images' twice"),
        ('{"images": [', 'JSON'),
        ('[' * 100000, 'JSON'),
        ('[]', r'it is \[\]'),
        ('{"images": {}, "annotations": []}', 'images is {}'),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1}], "annotations": []}', 'id 1'),
        ('{"images": [{"file_name": "a.png"}], "annotations": []}', 'id None'),
    ],
)
def test_a_coco_file_which_is_no_such(tmp_path, text, reason):
    path = tmp_path / 'tips.json'
    path.write_text(text, encoding='utf-8')
    for problems in (None, []):
        with pytest.raises(AnnotationError, match=f'tips.json.*{reason}'):
            read_coco(path, problems)


def test_the_same_image_under_two_ids(tmp_path):
    images = [dict(id=1, file_name='a.png'), dict(id=2, file_name='a.png')]
    with pytest.raises(AnnotationError, match=r'images\[1\]: the same image'):
        read_coco(coco(tmp_path, images))


def test_csv_rows_negatives_and_unknown_columns(tmp_path):
    path = tmp_path / 'tips.csv'
    path.write_text(
        '\ufeffimage, x ,y,note,pixel_size_um\nsub\\a.png,1.5,2,hm,0.5\nb.png,,,,\n'
        'sub\\a.png,3,4,,0.5\n\n',
        encoding='utf-8',
    )
    a, b = read_tip_csv(path)
    assert a.file_name == 'sub/a.png' and a.tips.tolist() == [[1.5, 2], [3, 4]]
    assert a.pixel_size_um == (0.5, 0.5) and a.where.endswith('tips.csv:2')
    assert b.tips.shape == (0, 2) and b.pixel_size_um is None and b.frame is None


@pytest.mark.parametrize(
    ('row', 'reason'),
    [
        ('a.png,nan,2,,', 'x is'),
        ('a.png,1,,,', 'y is'),
        ('a.png,1,ten,,', "'ten'"),
        ('a.png,10,5,20,5,,', 'decimal comma'),
        ('a.png,1', 'cells'),
        ('a.png,1,2,0.5,', 'frame'),
        ('a.png,1,2,,500', 'pixel_size_um'),
        ('../a.png,1,2,,', r'\.\.'),
        ('/a.png,1,2,,', 'absolute'),
        (',1,2,,', "no 'image'"),
        ('c.png,,,,', 'tip and no tip'),
        ('c.png,1,2,,0.4', 'pixel_size_um differs'),
    ],
)
def test_each_csv_fault_is_named_and_nothing_else_lost(tmp_path, row, reason):
    path = tmp_path / 'tips.csv'
    path.write_text(
        f'image,x,y,frame,pixel_size_um\nb.png,3,4,,\nc.png,5,6,,0.5\n{row}\na.png,1,1,,\n',
        encoding='utf-8',
    )
    with pytest.raises(AnnotationError, match=f'tips.csv:4: .*{reason}'):
        read_tip_csv(path)
    problems = []
    names = [record.file_name for record in read_tip_csv(path, problems)]
    assert len(problems) == 1 and 'b.png' in names
    # A faulty row spoils its own image, even if another of its rows is sound.
    assert problems[0].file_name not in names


def test_a_faulty_row_spoils_only_its_frame(tmp_path):
    path = tmp_path / 'tips.csv'
    path.write_text(
        'image,x,y,frame\na.tif,1,2,0\na.tif,1,oops,1\na.tif,1,3,1\na.tif,1,2,2\n', encoding='utf-8'
    )
    assert [record.frame for record in read_tip_csv(path, [])] == [0, 2]


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', 'no column'),
        ('image;x;y\na.png;1;2\n', 'separated by commas'),
        ('image,x\na.png,1\n', "'y'"),
        ('image,x,y,x\na.png,1,2,3\n', 'twice'),
        (b'image,x,y\n\xff\xfe,1,2\n', 'UTF-8'),
    ],
)
def test_a_csv_file_which_is_no_such(tmp_path, text, reason):
    path = tmp_path / 'tips.csv'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AnnotationError, match=reason):
        read_tip_csv(path, [])


@pytest.mark.parametrize('name', ['tips.pkl', 'tips.yaml', 'tips'])
def test_only_json_and_csv_are_opened(tmp_path, name):
    with pytest.raises(AnnotationError, match=name):
        read_annotations(tmp_path / name)


@pytest.mark.parametrize('name', ['tips.json', 'tips.csv'])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(AnnotationError, match=name):
        read_annotations(tmp_path / name)
