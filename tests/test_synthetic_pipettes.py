"""Scenes as a dataset: fresh every epoch, or kept and turned."""

import numpy as np
import pytest
import torch

from pipedet.datasets import FrozenPipettes, PackTips, RandomTurn, SyntheticPipettes, Warp


def dataset(keep, turn=False):
    pipeline = [dict(type=RandomTurn), dict(type=Warp)] if turn else []
    return SyntheticPipettes(
        recipes=dict(training=0.5, brightfield=0.5),
        length=6,
        pipeline=[*pipeline, dict(type=PackTips)],
        seed=3,
        keep=keep,
    )


def images(scenes, epoch, order=range(6)):
    scenes.set_epoch(epoch)
    return {i: scenes[i]['inputs'] for i in order}


def test_fresh_scenes_change_with_the_epoch_alone():
    first, second = images(dataset(1), 0), images(dataset(1), 1)
    again = images(dataset(1), 1, order=reversed(range(6)))
    assert all(torch.equal(second[i], again[i]) for i in range(6))
    assert not any(torch.equal(first[i], second[i]) for i in range(6))


def test_kept_scenes_are_those_of_the_first_epoch():
    fresh, kept = images(dataset(1), 0), dataset(None)
    for epoch in (4, 5):  # wherever a resumed run begins
        assert all(torch.equal(fresh[i], image) for i, image in images(kept, epoch).items())


def test_scenes_kept_for_some_epochs_are_replaced_in_turn():
    scenes = dataset(3)
    shown = [images(scenes, epoch) for epoch in range(7)]
    fresh = [images(dataset(1), epoch) for epoch in range(7)]
    for i in range(6):
        births = [epoch for epoch in range(7) if torch.equal(shown[epoch][i], fresh[epoch][i])]
        assert births[0] == 0
        assert np.diff(births[1:]).tolist() == [3] * (len(births) - 2)
        for epoch in range(7):  # between, the last one born stays
            born = max(b for b in births if b <= epoch)
            assert torch.equal(shown[epoch][i], fresh[born][i])
    alone = images(dataset(3), 5)  # wherever a resumed run begins
    assert all(torch.equal(shown[5][i], alone[i]) for i in range(6))


@pytest.mark.parametrize('keep', [True, 0])
def test_how_long_a_scene_is_kept_is_a_number(keep):
    with pytest.raises(ValueError, match='keep='):
        dataset(keep)


@pytest.mark.parametrize('count', [0, 501])
def test_a_frozen_set_has_so_many_scenes(count):
    with pytest.raises(ValueError, match='500'):
        FrozenPipettes(subset='clear', pipeline=[], count=count)


def test_scenes_drawn_by_workers_are_the_same():
    alone, prepared = dataset(None), dataset(None)
    torch.set_num_threads(2)
    try:
        prepared.prepare()
    finally:
        torch.set_num_threads(1)
    assert len(prepared._kept) == len(prepared)
    prepared._draw = None  # nothing is left to draw
    expected = images(alone, 0)
    assert all(torch.equal(expected[i], image) for i, image in images(prepared, 3).items())


def test_kept_scenes_turn_anew_every_epoch_with_their_tips():
    scenes = dataset(None, turn=True)
    seen, reaches = set(), []
    for epoch in range(8):
        scenes.set_epoch(epoch)
        packed = [scenes[i] for i in range(6)]
        seen.add(np.concatenate([p['inputs'].numpy().ravel() for p in packed]).tobytes())
        # Turned about the middle of the frame, no tip comes nearer to it or leaves it.
        tips = torch.cat([p['data_samples'].gt_tips.points for p in packed])
        reaches.append((tips - 127.5).norm(dim=1))
    assert len(seen) == 8
    assert all(torch.allclose(reach, reaches[0], atol=1e-3) for reach in reaches)
