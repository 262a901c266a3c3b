"""Pairs and domains: what belongs together stays together."""

import numpy as np
import torch

from pipedet.datasets import (
    CropAtTip,
    PackPair,
    PackTips,
    RandomFlip,
    RandomTurn,
    ScenePairs,
    SyntheticPipettes,
    ToUnit,
    UnpairedDomains,
    Warp,
)
from pipedet.datasets.pairs import clean_image
from pipedet.synthesis import draw_scene


def pairs(*transforms, **options):
    return ScenePairs(
        recipes=dict(clear=1.0), length=8, pipeline=[*transforms, dict(type=PackPair)], seed=1,
        **options,
    )  # fmt: skip


def test_input_and_target_are_the_same_scene_in_the_unit_range():
    for sample in [pairs(dict(type=ToUnit))[i] for i in range(4)]:
        noisy, clean = sample['inputs'], sample['targets']
        assert noisy.shape == clean.shape == (1, 256, 256)
        assert 0 <= min(noisy.min(), clean.min()) and max(noisy.max(), clean.max()) <= 1
        assert np.corrcoef(noisy.flatten(), clean.flatten())[0, 1] > 0.3


def test_clean_image_has_no_noise_and_no_cells():
    drawn = draw_scene('standard', seed=1, epoch=0, index=3)
    drawn.scene.tissue.amplitude += 5.0
    with_cells = clean_image(drawn.scene)
    drawn.scene.tissue.amplitude.zero_()
    assert np.array_equal(with_cells, clean_image(drawn.scene))


def turns_between(image, moved):
    """Return which of the eight turns and mirrors take one image to the other."""
    views = {(flip, k): (image.flip(-1) if flip else image).rot90(k, (1, 2))
             for flip in (False, True) for k in range(4)}  # fmt: skip
    return {view for view, turned in views.items() if torch.equal(turned, moved)}


def test_target_moves_with_the_image():
    moves = (dict(type=RandomFlip), dict(type=RandomTurn), dict(type=Warp))
    plain, moved = pairs(), pairs(*moves)
    for i in range(4):
        a, b = plain[i], moved[i]
        same = {key: turns_between(a[key], b[key]) for key in ('inputs', 'targets')}
        assert same['inputs'] & same['targets']
        back = np.linalg.inv(b['data_samples'].matrix)
        points = b['data_samples'].gt_tips.points.numpy() @ back[:2, :2].T + back[:2, 2]
        assert np.allclose(points, a['data_samples'].gt_tips.points, atol=1e-4)


def test_crop_is_centred_on_a_tip():
    for i in range(6):
        crop = pairs(dict(type=CropAtTip, size=80, jitter=0))[i]
        assert crop['inputs'].shape == crop['targets'].shape == (1, 80, 80)
        assert crop['data_samples'].img_shape == (80, 80)
        distance = (crop['data_samples'].gt_tips.points - 40).abs().amax(dim=1)
        assert distance.min() <= 0.51


def domain(recipe, length, seed, keep=1):
    crop = [dict(type=ToUnit), dict(type=CropAtTip, size=80, jitter=0), dict(type=PackTips)]
    return dict(
        type=SyntheticPipettes, recipes={recipe: 1.0}, length=length, pipeline=crop, seed=seed,
        keep=keep,
    )  # fmt: skip


def test_domains_are_paired_anew_in_every_epoch():
    target = domain('brightfield', 4, 2, keep=None)
    target['pipeline'] = [dict(type=PackTips)]  # without draws of its own
    both = UnpairedDomains(source=domain('standard', 6, 1), target=target)
    first = [both[i] for i in range(6)]
    assert len(both) == 6
    assert all(s['inputs'].shape == (1, 80, 80) for s in first)
    images = [both.target[i]['inputs'] for i in range(4)]
    assert all(any(torch.equal(s['targets'], image) for image in images) for s in first)
    assert all(torch.equal(a['targets'], both[i]['targets']) for i, a in enumerate(first))
    both.set_epoch(1)
    assert any(not torch.equal(a['targets'], both[i]['targets']) for i, a in enumerate(first))


def test_an_unread_image_of_either_domain_leaves_the_pair_out(monkeypatch):
    both = UnpairedDomains(source=domain('standard', 2, 1), target=domain('brightfield', 2, 2))
    load = both.target.load
    monkeypatch.setattr(
        both.target, 'load', lambda *a: load(*a) | dict(image=ValueError('no image'))
    )
    sample = both[0]
    assert sample['inputs'] is None and 'no image' in sample['data_samples'].fault
