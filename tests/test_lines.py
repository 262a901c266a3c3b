"""Dead lines: found, filled in, and reported."""

import numpy as np
import pytest

from pipedet.runtime.lines import count_dead_lines, dead_lines, fill_dead_lines
from pipedet.runtime.tips import why_unusable


def noisy(shape=(64, 80), seed=0):
    return np.random.default_rng(seed).poisson(20, shape).astype(np.uint16)


def test_an_image_without_dead_lines_is_returned_as_it_is():
    image = noisy()
    assert count_dead_lines(image) == 0 and fill_dead_lines(image) is image


@pytest.mark.parametrize('level', [0, 7, 65535])
def test_lines_of_one_level_are_dead_whatever_it_is(level):
    image = noisy()
    image[[0, 9, 10, 63]] = level
    image[:, 41] = level
    rows, columns = dead_lines(image)
    assert np.flatnonzero(rows).tolist() == [0, 9, 10, 63]
    assert np.flatnonzero(columns).tolist() == [41]
    assert count_dead_lines(image) == 5


def test_lines_that_cross_at_two_levels_do_not_hide_each_other():
    for first in ('row', 'column'):
        image = noisy()
        if first == 'row':
            image[9] = 0
        image[:, 41] = 65535
        if first == 'column':
            image[9] = 0
        rows, columns = dead_lines(image)
        assert np.flatnonzero(rows).tolist() == [9] and np.flatnonzero(columns).tolist() == [41]
        assert fill_dead_lines(image).max() < 100


def test_lines_as_dark_as_all_else_are_alive():
    sparse = np.random.default_rng(0).poisson(0.005, (256, 256)).astype(np.uint16)
    assert (sparse == 0).all(axis=1).sum() > 30
    assert count_dead_lines(sparse) == 0
    assert count_dead_lines(noisy((2, 100)) > 20) == 0  # short ones are equal by chance


def test_what_is_linear_comes_back_whole_and_the_last_line_goes_on():
    y, x = np.mgrid[:64, :80].astype(np.float32)
    image = 3 * x + 5 * y
    spoiled = image.copy()
    spoiled[[0, 9, 10, 30]] = 0
    spoiled[:, 41] = 0
    filled = fill_dead_lines(spoiled)
    assert filled.dtype == np.float32
    assert np.allclose(filled[1:], image[1:], atol=1e-3)
    assert np.allclose(filled[0], image[1], atol=1e-3)
    assert spoiled[9, 3] == 0  # the image given is left alone


def test_turned_images_are_filled_alike():
    image = noisy((60, 60)).astype(np.float32)
    image[[5, 31]] = 0
    assert (fill_dead_lines(image.T) == fill_dead_lines(image).T).all()


def test_bands_are_a_border_and_left_alone():
    image = noisy()
    image[:9] = 0
    image[40:48] = 0
    rows, _ = dead_lines(image)
    assert np.flatnonzero(rows).tolist() == list(range(40, 48))


def test_uniform_images_have_nothing_to_fill_from():
    for shape in ((2, 2), (4, 100), (100, 4), (100, 100)):
        assert count_dead_lines(np.zeros(shape)) == 0


def test_too_many_dead_lines_are_no_image():
    image = noisy()
    image[::4] = 0
    assert why_unusable(image) is None
    image[1::16] = 0
    assert why_unusable(image) == '20 rows and 0 columns of the image carry no signal'
