"""Pipette-C: seeded, harder with severity, and tips stay what they are labelled."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from pipedet.synthesis.corruptions import CORRUPTIONS, Frame, corrupt

sys.path.insert(0, str(Path(__file__).parent.parent / 'benchmarks'))
from corruptions import mean_corruption_error

UNMOVED = sorted(set(CORRUPTIONS) - {'line motion'})


def frame():
    y, x = np.mgrid[:64, :64]
    image = 0.2 + 0.1 * np.sin(x / 7) + 0.3 * np.exp(-((x - 40) ** 2 + (y - 20) ** 2) / 18)
    return Frame(image, np.array([[40.0, 20.0]]), np.array([[0.6, 0.8]]))


def spoil(name, severity, seed=0):
    return corrupt(name, severity, frame(), np.random.default_rng(seed))


def test_fourteen_of_five_severities():
    assert len(CORRUPTIONS) == 14
    assert all(len(levels) == 5 for _, levels in CORRUPTIONS.values())
    with pytest.raises(ValueError, match='shot noise'):
        spoil('fog', 1)
    with pytest.raises(ValueError, match='severity 6'):
        spoil('bits', 6)


def test_the_levels_are_those_that_models_were_measured_at():
    levels = repr([(name, levels) for name, (_, levels) in CORRUPTIONS.items()])
    assert hashlib.sha256(levels.encode()).hexdigest()[:16] == '231cf798aeeb6d10'


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_seeded_finite_and_worse_with_severity(name):
    clean = frame().image
    spoiled = [spoil(name, severity).image for severity in (1, 3, 5)]
    assert all(image.shape == clean.shape and np.isfinite(image).all() for image in spoiled)
    assert np.array_equal(spoiled[0], spoil(name, 1).image)
    harm = [np.abs(image - clean).mean() for image in spoiled]
    assert harm[0] < harm[1] < harm[2]


@pytest.mark.parametrize('name', UNMOVED)
def test_tips_stay(name):
    assert np.array_equal(spoil(name, 5).tips, frame().tips)


def test_a_tip_moves_with_its_line():
    for seed in range(5):
        spoiled = spoil('line motion', 4, seed)
        line = spoiled.image[20] - 0.3  # the line of the tip: its maximum moves along
        assert abs(np.argmax(line) - spoiled.tips[0, 0]) <= 1
        assert spoiled.tips[0, 1] == 20


def test_aberration_and_shadows_keep_what_they_should():
    clean = frame().image
    assert spoil('aberration', 5).image.mean() == pytest.approx(clean.mean(), rel=1e-6)
    assert spoil('vessel', 3).image.min() > 0.3 * clean.min()
    assert len(np.unique(spoil('bits', 5).image)) <= 16
    assert (spoil('dead lines', 5).image == 0).all(axis=1).sum() == 10


def test_errors_are_counted_against_those_of_the_baseline_corruption_by_corruption():
    def rows(of):
        places = [(name, s) for name in CORRUPTIONS for s in range(1, 6)]
        return {f'{name}/{s}': dict(accuracy=of(name, s)) for name, s in places}

    baseline = rows(lambda name, s: 100.0 - 4 * s)
    half = rows(lambda name, s: 100.0 - 2 * s)
    # One corruption is as bad as the baseline's, however its errors lie over the severities.
    turned = rows(lambda name, s: 100.0 - (4 * (6 - s) if name == 'bits' else 0))
    assert mean_corruption_error(baseline, baseline) == pytest.approx(100)
    assert mean_corruption_error(half, baseline) == pytest.approx(50)
    assert mean_corruption_error(turned, baseline) == pytest.approx(100 / 14)
