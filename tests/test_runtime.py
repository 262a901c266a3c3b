"""Exported detectors: they find what the detector finds, in frames of any size, without torch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import pipedet
from pipedet.models.preprocessor import normalise as normalise_batch
from pipedet.runtime.export import export
from pipedet.runtime.frames import extend, normalise, warp
from pipedet.runtime.session import TipSession
from pipedet.synthesis import draw_scene


@pytest.fixture(scope='module')
def localiser():
    return pipedet.load()


@pytest.fixture(scope='module')
def exported(localiser, tmp_path_factory):
    path = tmp_path_factory.mktemp('rig') / 'tips.onnx'
    export(localiser.model, localiser.pipeline, path, (256, 256), (0.8, 0.8))
    return path


def scene(index):
    return draw_scene('clear', seed=5, epoch=0, index=index).capture()


def assert_alike(first, second):
    assert len(first.scores) == len(second.scores)
    assert np.allclose(first.scores, second.scores, atol=1e-3)
    for name in ('points_px', 'points_um', 'covariance_px', 'direction', 'z_um'):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert np.allclose(ours, theirs, rtol=1e-2, atol=1e-2), name
    assert first.abstained == second.abstained
    if first.abstained is None:
        assert abs(first.confidence - second.confidence) < 1e-2


def test_a_session_finds_what_the_detector_finds(localiser, exported):
    session, tips = TipSession(exported), 0
    for index in range(6):
        frame = scene(index)
        found = session(frame)
        assert_alike(found, localiser(frame, (0.8, 0.8)))
        tips += len(found.scores)
    assert tips >= 6


def test_a_file_knows_how_many_tips_there_can_be_and_a_session_how_sure_to_be(tmp_path):
    localiser = pipedet.load(max_tips=1, threshold=0.5)
    session = export(localiser.model, localiser.pipeline, tmp_path / 'one.onnx', (256, 256), 0.8)
    for index in range(4):
        found = session(scene(index))
        assert_alike(found, localiser(scene(index), (0.8, 0.8)))
        assert len(found.scores) <= 1
        least = found.confidence + 0.01
        held_back = TipSession(tmp_path / 'one.onnx', min_confidence=least)(scene(index))
        assert 'confidence' in held_back.abstained and not len(held_back.points_px)
        assert held_back.confidence == pytest.approx(found.confidence)
    assert session.score_threshold == 0.5


def test_frames_of_another_size_are_resampled_as_the_detector_does(localiser, tmp_path):
    frame = warp(scene(1), np.diag([1.9, 1.7, 1]), (435, 487))
    size = (0.42, 0.47)
    path = tmp_path / 'large.onnx'
    session = export(localiser.model, localiser.pipeline, path, frame.shape, size)
    assert session.network.get_inputs()[0].shape[2:] != list(frame.shape)
    found = session(frame)
    assert len(found.scores) >= 1
    assert_alike(found, localiser(frame, size))


def test_frames_that_are_extended_or_integers_or_not_contiguous(localiser, tmp_path):
    frame = np.ascontiguousarray(scene(1)[:250, :246].T)
    frame = (255 * (frame / frame.max())).astype(np.uint8).T
    frame.flags.writeable = False
    session = export(localiser.model, localiser.pipeline, tmp_path / 'odd.onnx', (250, 246), 0.8)
    assert session.network.get_inputs()[0].shape[2:] == [256, 256]
    assert_alike(session(frame), localiser(frame, (0.8, 0.8)))


def test_a_session_needs_no_torch(exported):
    code = f"""
import sys
import numpy as np
from pipedet.runtime.session import TipSession
tips = TipSession({str(exported)!r})(np.zeros((256, 256), np.uint8))
assert tips.abstained == 'the image is uniform' and len(tips.scores) == 0
assert not {{'torch', 'mmengine', 'mmcv', 'scipy'}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_one_pixel_that_is_no_number_gets_no_answer(localiser, exported, bad):
    frame = scene(0).astype(np.float32)
    frame[200, 3] = bad
    for found in (TipSession(exported)(frame), localiser(frame, (0.8, 0.8))):
        assert 'NaN or infinite' in found.abstained and found.confidence is None
        assert found.points_px.shape == found.points_um.shape == (0, 2)


def test_what_no_network_can_read_gets_no_answer_or_an_error(localiser, exported):
    frame = scene(0).astype(np.float64)
    for find in (TipSession(exported), lambda image: localiser(image, (0.8, 0.8))):
        assert 'beyond single precision' in find(1e300 * frame).abstained
        assert 'beyond single precision' in find(2e38 + 1.4e38 * frame / frame.max()).abstained
        assert 'uniform' in find(1e15 + frame / frame.max()).abstained
        with pytest.raises(ValueError, match='real numbers; this array is of complex128'):
            find(frame + 0j)


def test_what_is_unlike_anything_known_gets_no_answer(localiser, exported):
    stripes = (np.arange(256) // 8 % 2 * 200.0 + np.zeros((256, 1))).astype(np.float32)
    found = TipSession(exported)(stripes)
    assert found.abstained == localiser(stripes).abstained
    assert 'unlike' in found.abstained and len(found.points_px) == 0


def test_dead_lines_are_filled_in_and_counted(localiser, exported):
    frame = scene(0)
    spoiled = frame.copy()
    spoiled[5::50] = 0
    whole = localiser(frame)
    for find in (TipSession(exported), localiser):
        found = find(spoiled)
        assert found.dead_lines == 6 and whole.dead_lines == 0
        assert found.points_px.shape == whole.points_px.shape
        assert np.abs(found.points_px - whole.points_px).max(initial=0) < 2


def test_frames_are_normalised_and_extended_as_batches_are():
    frame = np.random.default_rng(0).gamma(2, 300, (50, 61)).astype(np.uint16)
    alone = normalise(frame.astype(np.float32))
    batch = normalise_batch(torch.from_numpy(frame.astype(np.float32))[None, None])
    assert np.allclose(alone, batch[0, 0].numpy(), atol=1e-5)
    assert (normalise(np.full((9, 9), 7, np.float32)) == 0).all()
    larger = extend(alone, (64, 64))
    assert (larger[:50, :61] == alone).all() and (larger[50:, :61] == alone[-1]).all()
    assert (larger[:50, 61:] == alone[:, -1:]).all()


def test_what_a_session_cannot_do_it_says(localiser, exported, tmp_path):
    session = TipSession(exported)
    with pytest.raises(ValueError, match='--frame 200 256'):
        session(np.ones((200, 256)))
    with pytest.raises(FileNotFoundError, match=r'none\.onnx'):
        TipSession(tmp_path / 'none.onnx')
    broken = tmp_path / 'broken.onnx'
    broken.write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(ValueError, match='cannot be loaded'):
        TipSession(broken)


def test_what_is_not_exported_is_refused(localiser, tmp_path, monkeypatch):
    model = localiser.model
    with monkeypatch.context() as patch:
        patch.setattr('pipedet.runtime.export.find_spec', lambda name: None)
        with pytest.raises(RuntimeError, match=r'onnxscript.*export'):
            export(model, localiser.pipeline, tmp_path / 'a.onnx', (256, 256))
    with monkeypatch.context() as patch:
        patch.setattr(model, 'average_views', True, raising=False)
        with pytest.raises(ValueError, match='average_views'):
            export(model, localiser.pipeline, tmp_path / 'a.onnx', (256, 256))
    with pytest.raises(ValueError, match='pixel_size_um'):
        export(model, localiser.pipeline, tmp_path / 'a.onnx', (256, 256), 0.0)
    scales = iter((1.0, 0.5))  # a detector that says another thing when it is traced
    monkeypatch.setattr(model.head, '_odds', lambda scores: next(scales) * scores)
    with pytest.raises(RuntimeError, match='other scores'):
        export(model, localiser.pipeline, tmp_path / 'a.onnx', (256, 256))
    assert not list(tmp_path.iterdir())
