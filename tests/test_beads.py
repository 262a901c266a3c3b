"""Bead micrographs: what is drawn, what is cut out and pasted, and what counts."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from pipedet.datasets import BeadMicrographs, BeadPatches, PackBeads, RandomFlip, RandomTurn, Warp
from pipedet.datasets.beads import paste_beads
from pipedet.evaluation import KindMetric
from pipedet.structures import TipDataSample
from pipedet.synthesis import beads as scenes
from pipedet.synthesis.beads import draw_micrograph

SIZE = (200, 260)
POINTS = torch.tensor([[20.3, 31.7], [40.0, 12.4], [50.5, 41.5], [0.0, 63.4]])
KINDS = torch.tensor([0, 1, 0, 1])
PACK = [dict(type=Warp), dict(type=PackBeads)]


def scene(seed=0, **changes):
    return draw_micrograph(np.random.default_rng(seed), **dict(size=SIZE, beads=12) | changes)


def quiet_disc(diameter, place=(20.3, 19.6), amount=30.0):
    canvas = np.zeros((40, 40), np.float32)
    scenes._add_disc(canvas, np.array(place), diameter, amount)
    return canvas


def test_a_disc_has_its_centre_area_and_depth():
    disc = quiet_disc(8.0)
    y, x = np.mgrid[:40, :40]
    assert np.allclose([(x * disc).sum() / disc.sum(), (y * disc).sum() / disc.sum()],
                       [20.3, 19.6], atol=0.05)  # fmt: skip
    assert disc.sum() / 30 == pytest.approx(np.pi * 4**2, rel=0.02)
    assert disc.max() == 30


def test_a_scene_is_a_function_of_its_seed_and_has_its_size():
    first, again, other = scene(), scene(), scene(seed=1)
    assert first.image.shape == first.mask.shape == SIZE
    assert first.image.dtype == np.uint8 and first.mask.dtype == bool
    assert (first.image == again.image).all() and (first.points == again.points).all()
    assert (first.image != other.image).any()
    assert 0.4 < first.mask.mean() < 0.9
    assert first.points.shape == (12, 2) and first.kinds.shape == (12,)
    apart = np.hypot(*(first.points[:, None] - first.points).transpose(2, 0, 1))
    assert apart[~np.eye(12, dtype=bool)].min() >= scenes.APART


def test_beads_are_darker_than_what_is_around_by_what_was_asked_for():
    depths = {0: [], 1: []}
    for seed in range(6):
        own = scene(seed)
        for (x, y), kind in zip(np.round(own.points).astype(int), own.kinds, strict=True):
            around = own.image[max(y - 18, 0) : y + 19, max(x - 18, 0) : x + 19]
            middle = own.image[y - 1 : y + 2, x - 1 : x + 2].mean()
            depths[kind].append(np.median(around) - middle)
    for values in depths.values():
        assert np.mean(values) == pytest.approx(np.mean(scenes.DEPTH), abs=6)


def test_kinds_without_a_gap_and_beads_without_room_are_refused():
    with pytest.raises(ValueError, match='cannot be told apart'):
        scene(diameters=((8.0, 14.0), (15.0, 20.0)))
    with pytest.raises(ValueError, match='do not fit'):
        scene(beads=300)
    with pytest.raises(ValueError, match='do not fit into micrographs'):
        patches(patch=220)


def test_three_kinds_can_be_drawn():
    assert set(scene(diameters=((8, 10), (12, 16), (18, 20))).kinds) == {0, 1, 2}


def patches(**changes):
    options = dict(
        length=6, patch=96, near_beads=0.7, pasted=4, micrographs=2, size=SIZE, beads=12,
        pipeline=[dict(type=RandomFlip), dict(type=RandomTurn), *PACK], seed=3,
    )  # fmt: skip
    return BeadPatches(**options | changes)


def test_patches_repeat_within_an_epoch_and_never_in_another():
    first, second = patches(), patches()
    assert torch.equal(first[2]['inputs'], second[2]['inputs'])
    second.set_epoch(1)
    assert not torch.equal(first[2]['inputs'], second[2]['inputs'])
    assert not torch.equal(first[2]['inputs'], first[3]['inputs'])
    sample = first[2]['data_samples']
    assert first[2]['inputs'].shape == (1, 96, 96) and sample.mask.shape == (96, 96)
    assert sample.gt_tips.kind.dtype == torch.long
    assert len(sample.gt_tips.kind) == len(sample.gt_tips.points)


def test_hard_mining_cuts_round_beads():
    always = patches(near_beads=1.0, pasted=0, length=20, pipeline=PACK)
    for index in range(20):
        assert len(always[index]['data_samples'].gt_tips.points) >= 1


def test_labels_of_patches_lie_on_dark_pixels():
    depths = []
    own = patches(length=24)
    for index in range(24):
        image, points = own[index]['inputs'][0], own[index]['data_samples'].gt_tips.points
        for x, y in points.round().long().tolist():
            if 18 <= x < 78 and 18 <= y < 78:
                around = image[y - 18 : y + 19, x - 18 : x + 19]
                depths.append(float(around.median() - image[y - 1 : y + 2, x - 1 : x + 2].mean()))
    assert len(depths) > 40
    assert np.mean(depths) == pytest.approx(np.mean(scenes.DEPTH), abs=6)


def test_pasted_beads_are_labelled_and_keep_their_depth():
    source, rng = scene(), np.random.default_rng(0)
    plain = np.full((180, 180), 90.0, np.float32)
    old = np.array([[60.0, 60.0]], np.float32)
    image, points, kinds = paste_beads(plain, old, np.array([1]), source=source, count=5, rng=rng)
    assert len(points) == len(kinds) == 6 and (points[0] == old[0]).all()
    apart = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    assert apart[~np.eye(6, dtype=bool)].min() >= scenes.APART
    assert (plain == 90).all() and (image[54:67, 54:67] == 90).all()
    middles = []
    for (x, y), kind in zip(points[1:], kinds[1:], strict=True):
        # The same pixels, moved by whole ones and to another level.
        origin = source.points[np.isclose((source.points - (x, y)) % 1, [0, 0], atol=1e-4).all(1)]
        assert len(origin) == 1 and source.kinds[(source.points == origin).all(axis=1)] == [kind]
        i, j = np.round([y, x]).astype(int)
        row, column = np.round(origin[0][::-1]).astype(int)
        moved = image[i - 2 : i + 3, j - 2 : j + 3]
        still = source.image[row - 2 : row + 3, column - 2 : column + 3]
        assert np.ptp(moved - still) < 1e-3
        middles.append(image[i - 1 : i + 2, j - 1 : j + 2].mean())
    assert 90 - np.mean(middles) == pytest.approx(np.mean(scenes.DEPTH), abs=10)


def test_whole_micrographs_carry_their_mask():
    dataset = BeadMicrographs(micrographs=2, size=SIZE, beads=12, pipeline=PACK, seed=4)
    first = dataset[0]
    assert first['inputs'].shape == (1, *SIZE) and len(dataset) == 2
    assert first['data_samples'].mask.shape == SIZE
    assert len(first['data_samples'].gt_tips.points) == 12
    assert not torch.equal(first['inputs'], dataset[1]['inputs'])


def evaluated(pred, kinds, scores=None, mask=None):
    sample = TipDataSample(
        metainfo=dict(
            source='a', frame=0, session='s', subset='beads', pixel_size_um=(0.1, 0.1),
            matrix=np.eye(3),
        )
    )  # fmt: skip
    sample.gt_tips = InstanceData(points=POINTS, kind=KINDS)
    if mask is not None:
        sample.mask = mask
    scores = torch.full((len(pred),), 0.9) if scores is None else scores
    sample.set_prediction(pred, scores, 0.5, dict(kind=kinds))
    metric = KindMetric(names=('small', 'large'), radius=5)
    metric.process(None, [sample.to_dict()])
    return metric, metric.evaluate(1)


def test_each_kind_is_counted_by_itself_in_pixels():
    _, perfect = evaluated(POINTS + 2, KINDS)
    assert {v for k, v in perfect.items() if k.startswith('kind/')} == {100.0}
    swapped = KINDS.clone()
    swapped[0] = 1
    _, m = evaluated(POINTS, swapped)
    assert m['kind/recall@5px/small'] == 50 and m['kind/precision@5px/small'] == 100
    assert m['kind/recall@5px/large'] == 100
    assert m['kind/precision@5px/large'] == pytest.approx(200 / 3)
    assert m['kind/f1@5px'] == pytest.approx((200 / 3 + 80) / 2)
    _, unsure = evaluated(POINTS, KINDS, scores=torch.tensor([0.4, 0.9, 0.9, 0.9]))
    assert unsure['kind/recall@5px/small'] == 50


def test_what_lies_outside_the_mask_neither_counts_nor_costs(tmp_path):
    mask = torch.zeros(64, 72, dtype=torch.bool)
    mask[:, 30:] = True  # two of the objects, and the ghost, are outside
    ghost = torch.tensor([[10.0, 10.0], [200.0, 10.0]])
    pred = torch.cat([POINTS[1:3], ghost])
    metric, m = evaluated(pred, torch.tensor([1, 0, 0, 1]), mask=mask)
    assert {v for k, v in m.items() if k.startswith('kind/')} == {100.0}
    _, without = evaluated(pred, torch.tensor([1, 0, 0, 1]))
    assert without['kind/f1@5px'] == 50
    report = metric.write(tmp_path, 'Beads', {'seed': 0}, None)
    assert '| large | 100.0 | 100.0 | 100.0 |' in report
    assert (tmp_path / 'metrics.json').exists()


def test_an_image_without_prediction_misses_all_that_is_in_it():
    metric, _ = evaluated(POINTS, KINDS)
    sample = dict(
        source='b', frame=0, session='s', subset='beads', pixel_size_um=None, matrix=np.eye(3),
        gt_tips=dict(points=POINTS, kind=KINDS),
    )  # fmt: skip
    metric.process(None, [sample])
    m = metric.evaluate(1)
    assert m['kind/recall@5px/small'] == 0 and 'kind/precision@5px/small' not in m
