"""Whatever comes in, what comes out is right or one of our own errors.

300 examples each; `pytest tests/test_fuzz.py --fuzz 10000` for more.
"""

import json

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pipedet
from pipedet.formats import AnnotationError, ImageReadError, read_annotations, read_image
from pipedet.models.heatmaps import draw_gaussians, find_peaks
from pipedet.synthesis import draw_scene

DTYPES = ('uint8', 'uint16', 'int16', 'int32', 'float32', 'float64')
images = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = scalars | st.lists(scalars, max_size=4) | st.dictionaries(st.just('x'), scalars)
KEYS = ('id', 'file_name', 'frame', 'session', 'pixel_size_um', 'z_um', 'image_id', 'keypoints')
entries = st.lists(
    st.dictionaries(st.sampled_from(KEYS), anything | st.integers(0, 2), max_size=8), max_size=3
)


@given(image=images)
def test_a_tiff_reads_back_or_is_refused(tmp_path_factory, image):
    path = tmp_path_factory.getbasetemp() / 'fuzz.tif'
    tifffile.imwrite(path, image, photometric='minisblack')
    if np.isfinite(image).all():
        back = read_image(path)
        assert back.dtype == image.dtype and np.array_equal(back, image)
    else:
        assert_refused(path)


@given(data=st.binary(max_size=300), suffix=st.sampled_from(['.png', '.jpg', '.bmp', '.tif']))
def test_bytes_are_no_image(tmp_path_factory, data, suffix):
    path = tmp_path_factory.getbasetemp() / f'fuzz{suffix}'
    path.write_bytes(data)
    assert_refused(path)


@given(start=st.integers(0, 400), junk=st.binary(min_size=1, max_size=8), tiff=st.booleans())
def test_a_damaged_image_reads_in_full_or_is_refused(tmp_path_factory, start, junk, tiff):
    path = tmp_path_factory.getbasetemp() / ('damaged.tif' if tiff else 'damaged.png')
    image = np.arange(480, dtype=np.uint16).reshape(20, 24)
    if tiff:
        tifffile.imwrite(path, image)
    else:
        path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    data = bytearray(path.read_bytes())
    data[start : start + len(junk)] = junk
    path.write_bytes(data)
    try:
        assert read_image(path).ndim == 2
    except ImageReadError as error:
        assert error.path == path


def assert_refused(path):
    try:
        read_image(path)
    except ImageReadError as error:
        assert error.path == path and error.reason
    else:
        raise AssertionError('read')


@given(images=entries, annotations=entries)
def test_a_coco_file_is_read_or_its_faults_are_named(tmp_path_factory, images, annotations):
    path = tmp_path_factory.getbasetemp() / 'fuzz.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations)), encoding='utf-8')
    check_records(path)


@given(rows=st.lists(st.lists(st.text(max_size=6), min_size=1, max_size=5), max_size=4))
def test_a_table_is_read_or_its_faults_are_named(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / 'fuzz.csv'
    text = ''.join(','.join(row) + '\n' for row in rows)
    path.write_text('image,x,y,frame\n' + text, encoding='utf-8', newline='')
    check_records(path)


def check_records(path):
    problems = []
    try:
        records = read_annotations(path, problems)
    except AnnotationError as error:
        assert error.where.startswith(str(path))
        return
    assert all(problem.where.startswith(str(path)) for problem in problems)
    for record in records:
        assert np.isfinite(record.tips).all() and record.tips.shape[1] == 2
        assert '..' not in record.file_name.split('/') and not record.file_name.startswith('/')


heats = st.floats(0, 1, width=32) | st.sampled_from([float('nan'), float('inf'), 1e-30])


@given(
    heatmap=arrays.arrays(
        np.float32, (12, 10), elements=heats, fill=st.sampled_from([0.0, 0.5, 1.0])
    )
)
def test_peaks_are_finite_and_inside_whatever_the_map(heatmap):
    points, scores = find_peaks(torch.tensor(heatmap)[None, None], max_tips=4, stride=4, radius=1)
    assert points.shape == (1, 4, 2) and scores.isfinite().all()
    assert points[scores > 0].isfinite().all()
    assert ((points[scores > 0] >= -0.5) & (points[scores > 0] <= torch.tensor([39.5, 47.5]))).all()


@given(value=heats | st.floats(-100, 100), place=st.none() | st.integers(0, 119))
def test_flat_saturated_and_one_pixel_maps_give_no_plausible_tip(value, place):
    heatmap = torch.full((1, 1, 12, 10), value).sigmoid()
    _, scores = find_peaks(heatmap, max_tips=4, stride=4, radius=1)
    assert (scores == 0).all()
    if place is not None and np.isfinite(value):
        assume(0.01 < heatmap.max() < 0.99)
        heatmap.view(-1)[place] = float('nan')
        _, scores = find_peaks(heatmap, max_tips=4, stride=4, radius=1)
        assert (scores == 0).all()


@given(
    x=st.floats(16, 100),
    y=st.floats(16, 100),
    sigma=st.floats(5, 10),
    stride=st.sampled_from([1, 2, 4]),
)
def test_a_gaussian_reads_back_to_a_twentieth_of_a_pixel(x, y, sigma, stride):
    size = 128 // stride
    tip = torch.tensor([[x, y]])
    heatmap = draw_gaussians([tip], (size, size), sigma=sigma, stride=stride, merge='max')
    points, scores = find_peaks(heatmap.clamp(max=1 - 1e-6), max_tips=2, stride=stride, radius=1)
    assert (points[0, 0] - tip[0]).abs().max() < 0.05 and scores[0, 1] < 0.5


@pytest.fixture(scope='module')
def localise():
    model = pipedet.load()
    model.model.score_threshold = 0.01  # so that there are tips to look at
    return model


@pytest.fixture(scope='module')
def clear():
    return draw_scene('clear', seed=5, epoch=0, index=0).capture().astype(np.float64)


def assert_finite_or_not_answered(tips, image):
    count = len(tips.scores)
    assert tips.abstained is None or (count == 0 and tips.confidence is None)
    assert tips.abstained or np.isfinite(image).all()
    assert tips.confidence is None or 0 <= tips.confidence <= 1
    for values in (tips.points_px, tips.scores, tips.points_um, tips.covariance_px, tips.direction):
        assert values is None or (len(values) == count and np.isfinite(values).all())


@given(
    image=st.sampled_from(('bool', *DTYPES)).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))
    ),
    pixel_size=st.none() | st.tuples(*[st.floats(0.05, 20)] * 2),
)
def test_any_array_is_answered_in_finite_numbers_or_not_at_all(localise, image, pixel_size):
    if min(image.shape) < 2:
        with pytest.raises(ValueError, match='an image is'):
            localise(image, pixel_size)
        return
    assert_finite_or_not_answered(localise(image, pixel_size), image)


@settings(max_examples=60)  # a whole frame takes longer
@given(
    scale=st.floats(1e-30, 1e30),
    offset=st.floats(-10, 10),
    corner=st.tuples(*[st.integers(0, 64)] * 2),
    patch=arrays.arrays('float64', (4, 4), elements=st.floats()),
    spoiled=st.booleans(),
)
def test_tips_of_a_scene_are_finite_in_any_unit(
    localise, clear, scale, offset, corner, patch, spoiled
):
    image = scale * (clear / clear.max() + offset)[corner[1] :, corner[0] :]
    if spoiled:
        image[90:94, 90:94] = patch
    tips = localise(image, (0.7, 0.7))
    assert_finite_or_not_answered(tips, image)
    if not spoiled and max(corner) < 4:
        assert len(tips.scores)
