"""ONNX Runtime gives the predictions that torch gives."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.utils._pytree import tree_flatten

import pipedet
from pipedet.models import onnx_network
from pipedet.models.fusing import fuse
from pipedet.models.onnx_network import OnnxNetwork, run_by
from pipedet.models.tip_detector import build_detector
from pipedet.synthesis import draw_scene

CONFIGS = Path(__file__).parent.parent / 'configs'


def detector(name, **changes):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.merge_from_dict(changes)
    torch.manual_seed(0)
    return fuse(build_detector(config.model).eval()).requires_grad_(False)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('quickstart', {}),  # one tensor, the mean of eight views
        ('tipnet_n', {}),  # maps and a summary
        ('tipnet_n', {'model.average_views': True}),
        ('small/ours', {'model.enhancer': None}),  # maps and slots, a transformer
    ],
)
def test_predictions_are_those_of_torch(name, changes):
    model = detector(name, **changes)
    images = torch.randn(1, 1, 128, 128)
    points, scores = model.read(images)
    others, other_scores = run_by('onnxruntime', model).read(images)
    torch.testing.assert_close(other_scores, scores, rtol=1e-4, atol=1e-5)
    sure = scores > 0.01  # of an untrained map, peaks of the same height may change places
    torch.testing.assert_close(others[sure], points[sure], rtol=1e-4, atol=1e-2)


def test_the_model_that_ships_finds_the_same_tips():
    image = draw_scene('clear', seed=5, epoch=0, index=3).capture()
    tips, same = (pipedet.load(runtime=r)(image, (0.76, 0.76)) for r in onnx_network.RUNTIMES)
    assert len(tips.scores)
    np.testing.assert_allclose(same.points_px, tips.points_px, atol=1e-3)
    np.testing.assert_allclose(same.scores, tips.scores, atol=1e-4)
    np.testing.assert_allclose(same.covariance_px, tips.covariance_px, rtol=1e-3)


def test_the_last_few_shapes_are_kept(monkeypatch):
    translated = []

    class Session:
        def get_inputs(self):
            return [type('Input', (), dict(name='x'))]

        def run(self, names, feeds):
            return [feeds['x']]

    def translate(self, images):
        translated.append(images.shape[-1])
        return Session(), tree_flatten(images)[1]

    monkeypatch.setattr(OnnxNetwork, '_translate', translate)
    network = OnnxNetwork(torch.nn.Identity())
    for size in (1, 2, 3, 4, 1, 5, 2, 1):
        images = torch.rand(1, 1, size, size)
        assert network(images).equal(images)
    assert translated == [1, 2, 3, 4, 5, 2]  # 2 was the oldest when 5 came


def test_a_translation_that_computes_something_else_is_refused(monkeypatch):
    exact = onnx_network.to_onnx
    monkeypatch.setattr(
        onnx_network, 'to_onnx', lambda network, images: exact(torch.nn.Softplus(), images)
    )
    with pytest.raises(RuntimeError, match='off what torch computes'):
        OnnxNetwork(torch.relu)(torch.zeros(1, 1, 8, 8))


def test_what_cannot_be_is_told(monkeypatch):
    model = detector('tipnet_n')
    with pytest.raises(ValueError, match='there are torch, onnxruntime'):
        run_by('onnx', model)
    with pytest.raises(ValueError, match='eval mode'):
        run_by('onnxruntime', model.train())
    with pytest.raises(ValueError, match='CenterNet'):
        run_by('onnxruntime', detector('detectors/midasmap_small'))
    already = run_by('onnxruntime', detector('tipnet_n'))
    with pytest.raises(ValueError, match='already'):
        run_by('onnxruntime', already)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(RuntimeError, match=r'pip install -e "\.\[onnx\]"'):
        run_by('onnxruntime', model.eval())
