"""Transforms: a blob's centroid goes where its tip goes, and the random generator decides all."""

import numpy as np
import pytest
import torch

from pipedet.datasets import (
    PackTips,
    Photometric,
    RandomFlip,
    RandomRotate,
    RandomScale,
    RandomTurn,
    Resize,
    ToPixelSize,
    Warp,
)
from pipedet.structures import META_KEYS, apply_affine

SHAPE = (96, 128)


def blob(tip, shape=SHAPE, sigma=3.0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    squared = (x - tip[0]) ** 2 + (y - tip[1]) ** 2
    return np.exp(-squared / (2 * sigma**2)).astype(np.float32)


def centroid(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()


def make_results(image, tips=(), seed=0, **fields):
    return dict(
        image=image,
        tips=np.array(tips, np.float32).reshape(-1, 2),
        tip_fields=fields,
        rng=np.random.default_rng(seed),
        matrix=np.eye(3),
        ori_shape=image.shape,
        img_shape=image.shape,
        source='a.png',
        frame=0,
        session='s',
        subset='test',
        pixel_size_um=None,
    )


def run(transforms, results):
    for transform in transforms:
        results = transform(results)
    return results


def check_blob(transforms, tip, seed=0):
    results = run([*transforms, Warp()], make_results(blob(tip), [tip], seed))
    assert results['image'].shape == tuple(results['img_shape'])
    assert results['tips'].shape == (1, 2)
    error = np.abs(centroid(results['image']) - results['tips'][0])
    assert error.max() < 0.05, error
    return results


CHAINS = {
    'flip': [RandomFlip(horizontal=1, vertical=1)],
    'mirror': [RandomFlip(horizontal=1, vertical=0)],
    'larger': [Resize(size=(192, 256))],
    'smaller': [Resize(size=(48, 64))],
    'much smaller': [Resize(size=(24, 32))],
    'anisotropic': [Resize(size=(160, 80))],
    'square': [Resize(size=64)],
    'scale': [RandomScale(low=0.7, high=1.3)],
    'rotate': [RandomRotate(degrees=180)],
    'turn': [RandomTurn()],
    'turn of an oblong': [Resize(size=(90, 140)), RandomTurn()],
}


@pytest.mark.parametrize('name', CHAINS)
@pytest.mark.parametrize('seed', range(4))
def test_the_tip_stays_on_the_blob(name, seed):
    tip = np.random.default_rng(seed).uniform((54, 38), (74, 58))
    check_blob(CHAINS[name], tip, seed)


@pytest.mark.parametrize('seed', range(12))
def test_the_tip_stays_on_the_blob_through_chains(seed):
    rng = np.random.default_rng(seed)
    parts = [
        RandomFlip(),
        RandomScale(low=0.8, high=1.2),
        RandomRotate(degrees=180),
        Resize(size=tuple(rng.integers(56, 160, 2).tolist())),
        RandomScale(low=0.8, high=1.2),
        RandomRotate(degrees=20),
    ]
    chain = [parts[i] for i in rng.permutation(len(parts))]
    check_blob(chain, rng.uniform((58, 42), (70, 54)), seed)


def test_flips_are_exact():
    image = np.random.default_rng(0).integers(0, 65536, (7, 10), dtype=np.uint16)
    tips = [[0, 0], [9, 6], [2.25, 3.5]]
    for horizontal in (0, 1):
        for vertical in (0, 1):
            flip = RandomFlip(horizontal=horizontal, vertical=vertical)
            results = run([flip, Warp()], make_results(image, tips))
            expected = image[:: -1 if vertical else 1, :: -1 if horizontal else 1]
            assert np.array_equal(results['image'], expected)
            moved = np.array(tips)
            moved[:, 0] = 9 - moved[:, 0] if horizontal else moved[:, 0]
            moved[:, 1] = 6 - moved[:, 1] if vertical else moved[:, 1]
            assert np.array_equal(results['tips'], moved.astype(np.float32))


def test_resize_maps_corners_to_corners():
    results = Resize(size=(20, 30))(make_results(np.zeros((10, 10), np.uint8)))
    corners = np.array([[-0.5, -0.5], [9.5, 9.5]])
    moved = apply_affine(results['matrix'], corners)
    np.testing.assert_allclose(moved, [[-0.5, -0.5], [29.5, 19.5]], atol=1e-6)


def test_nothing_to_do_leaves_the_pixels_alone():
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    results = run([Resize(size=(3, 4)), Warp()], make_results(image, [[1, 2]]))
    assert results['image'] is image and results['tips'].tolist() == [[1, 2]]


def test_two_flips_cancel():
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    flip = RandomFlip(horizontal=1, vertical=1)
    assert run([flip, flip, Warp()], make_results(image))['image'] is image


def test_chains_render_once():
    """Twice and then half the size changes no pixel: nothing was resampled in between."""
    image = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    chain = [RandomScale(low=2, high=2), RandomScale(low=0.5, high=0.5), Warp()]
    np.testing.assert_allclose(run(chain, make_results(image))['image'], image, atol=1e-6)


def test_shrinking_does_not_alias():
    """A checkerboard has no detail left at a quarter of its size: it becomes even grey."""
    image = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)
    for size in (16, (16, 64), (64, 16)):
        small = run([Resize(size=size), Warp()], make_results(image))['image']
        # Away from the border, where the repeated last row is detail of its own.
        assert np.abs(small[2:-2, 2:-2] - 0.5).max() < 0.01
    turned = [RandomRotate(degrees=45), Resize(size=16), Warp()]
    assert run(turned, make_results(image))['image'][4:-4, 4:-4].std() < 0.02


def test_tips_that_leave_are_dropped_with_their_fields():
    tips = [[64, 48], [2, 2], [60, 40]]
    results = make_results(blob((64, 48)), tips, z_um=np.array([1.0, 2.0, 3.0]))
    results = run([RandomScale(low=2, high=2), Warp()], results)
    assert len(results['tips']) == 2 and results['tip_fields']['z_um'].tolist() == [1, 3]


def test_no_tips():
    results = run([*CHAINS['scale'], Warp(), PackTips()], make_results(blob((64, 48))))
    assert results['data_samples'].gt_tips.points.shape == (0, 2)


def all_transforms():
    intensities = Photometric(brightness=0.2, contrast=0.2, gamma=0.3, noise=0.05)
    geometry = [RandomFlip(), RandomScale(), RandomRotate(degrees=30), Resize(size=64), Warp()]
    return [*geometry, intensities, PackTips()]


def test_the_generator_decides_everything():
    def inputs(seed):
        np.random.seed(np.random.default_rng().integers(2**31))
        return run(all_transforms(), make_results(blob((64, 48)), [[64, 48]], seed))['inputs']

    assert torch.equal(inputs(3), inputs(3))
    assert not torch.equal(inputs(3), inputs(4))


@pytest.mark.parametrize('gain', [1, 16, 1 / 255])
def test_photometric_does_not_depend_on_units(gain):
    vary = Photometric(brightness=0.2, contrast=0.2, gamma=0.3, noise=0.05)
    image = 10 + 200 * blob((64, 48))
    base = vary(make_results(image))['image']
    other = vary(make_results(image * gain))['image']
    assert other.dtype == np.float32
    np.testing.assert_allclose(other, base * gain, rtol=1e-3, atol=0.02 * gain)


def test_photometric_of_nothing_and_of_a_flat_image():
    image = 10 + 200 * blob((64, 48))
    still = Photometric(brightness=0, contrast=0, gamma=0, noise=0)
    np.testing.assert_allclose(still(make_results(image))['image'], image, rtol=1e-5)
    flat = np.full(SHAPE, 7, np.uint16)
    vary = Photometric(brightness=1, contrast=1, gamma=1, noise=1)
    assert np.array_equal(vary(make_results(flat))['image'], flat)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'int32', 'float64'])
def test_packing_keeps_every_level(dtype):
    high = min(np.iinfo(dtype).max, 2**24) if dtype != 'float64' else 2**24
    image = np.array([[0, 1, 7], [high - 2, high - 1, high]], dtype)
    packed = PackTips()(make_results(image, [[1, 0]], z_um=np.array([4.0])))
    assert packed['inputs'].dtype == torch.float32 and packed['inputs'].shape == (1, 2, 3)
    assert np.array_equal(packed['inputs'][0].double().numpy(), image.astype(np.float64))
    sample = packed['data_samples']
    assert sample.gt_tips.points.tolist() == [[1, 0]] and sample.gt_tips.z_um.tolist() == [4]
    assert sample.gt_tips.points.dtype == sample.gt_tips.z_um.dtype == torch.float32
    assert set(META_KEYS) <= set(sample.metainfo_keys())


def test_predictions_return_to_original_pixels():
    tips = np.array([[60, 40], [70, 50]], np.float32)
    chain = [RandomFlip(), RandomRotate(degrees=20), Resize(size=(50, 200)), Warp(), PackTips()]
    sample = run(chain, make_results(blob((64, 48)), tips))['data_samples']
    sample.set_prediction(sample.gt_tips.points, torch.tensor([0.9, 0.8]), 0.5)
    np.testing.assert_allclose(sample.pred_tips.points.numpy(), tips, atol=1e-4)


def test_turns_resample_nothing_and_all_four_come():
    image = np.random.default_rng(0).random((48, 64)).astype(np.float32)
    seen = set()
    for seed in range(12):
        turned = run([RandomTurn(), Warp()], make_results(image, seed=seed))['image']
        quarters = [k for k in range(4) if np.array_equal(np.rot90(image, -k), turned)]
        assert len(quarters) == 1
        seen.update(quarters)
    assert seen == {0, 1, 2, 3}


def test_directions_turn_with_the_image():
    tip, shaft = np.array([60.0, 40.0]), np.array([0.8, 0.6])
    image = blob(tip)
    chain = [RandomTurn(), RandomRotate(degrees=40), RandomFlip(), RandomScale(low=0.9, high=0.9)]
    for seed in range(6):
        results = make_results(image, [tip], seed, direction=shaft[None])
        done = run([*chain, Warp()], results)
        behind = apply_affine(done['matrix'], (tip + 10 * shaft)[None])[0] - done['tips'][0]
        expected = behind / np.linalg.norm(behind)
        assert np.allclose(done['tip_fields']['direction'][0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ('pixel_size', 'shape'),
    [
        ((0.75, 0.75), SHAPE),
        ((0.25, 0.25), (48, 64)),
        ((2.0, 2.0), (192, 256)),
        ((0.5, 0.25), (48, 128)),
        ((0.9, 0.4), (64, 192)),
        ((0.78, 0.74), SHAPE),
        (None, (72, 96)),
    ],
)
def test_pixels_are_brought_to_a_known_size(pixel_size, shape):
    tip = (60.0, 40.0)
    results = make_results(blob(tip), [tip]) | dict(pixel_size_um=pixel_size)
    done = run([ToPixelSize(low=0.5, high=1.0, side=72), Warp()], results)
    assert done['image'].shape == shape
    assert np.abs(centroid(done['image']) - done['tips'][0]).max() < 0.05
    if pixel_size is not None:
        reached = np.array(pixel_size) * SHAPE[::-1] / shape[::-1]
        assert ((reached >= 0.5) & (reached <= 1.0)).all() and reached.max() < 1.1 * reached.min()


def test_a_pixel_size_that_cannot_be_is_told_of_its_image():
    results = make_results(np.zeros(SHAPE)) | dict(pixel_size_um=(900.0, 900.0), source='b')
    with pytest.raises(ValueError, match='^b: .*check the pixel size'):
        run([ToPixelSize(low=0.5, high=1.0, side=72)], results)


def test_images_left_as_they_are_keep_their_noise():
    image = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
    transform = RandomScale(low=0.8, high=1.2, probability=0.5)
    kept = [run([transform, Warp()], make_results(image, seed=seed))['image'] for seed in range(40)]
    same = sum(k.dtype == np.uint8 and np.array_equal(k, image) for k in kept)
    assert 10 < same < 30
