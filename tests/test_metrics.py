import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from pipedet.evaluation import TipMetric, known_count
from pipedet.structures import TipDataSample, apply_affine

# (x, y) of a 100 x 80 image -> resized by (2, 1.5) -> flipped left to right: a resize is
# (x + 0.5) s - 0.5 and a flip W - 1 - x with W = 200.
RESIZE = np.array([[2.0, 0, 0.5], [0, 1.5, 0.25], [0, 0, 1]])
FLIP = np.array([[-1.0, 0, 199], [0, 1, 0], [0, 0, 1]])
MATRIX = FLIP @ RESIZE


def make_sample(true, index=0, cnr=None, pixel_size_um=(0.5, 0.5)):
    sample = TipDataSample()
    sample.gt_tips = InstanceData(points=torch.from_numpy(apply_affine(MATRIX, np.array(true))))
    if cnr is not None:
        sample.gt_tips.cnr = torch.tensor(cnr)
    sample.set_metainfo(
        dict(
            **dict(source='a.tif', frame=index, session='s', subset='vivo', matrix=MATRIX),
            **dict(pixel_size_um=pixel_size_um, ori_shape=(80, 100), img_shape=(120, 200)),
        )
    )
    return sample


def test_metric_in_an_evaluator():
    first = make_sample([[10.0, 20.0], [70.0, 40.0]], cnr=[0.5, 3.0])
    second = make_sample([[50.0, 60.0]], index=1)
    # Predictions are given in input pixels, and stored in original ones by the sample.
    exact = first.gt_tips.points.flip(0)
    first.set_prediction(exact, torch.tensor([0.7, 0.9]), threshold=0.7)
    off = torch.from_numpy(apply_affine(MATRIX, np.array([[58.0, 60.0], [0.0, 0.0]])))
    second.set_prediction(off, torch.tensor([0.9, 0.2]), threshold=0.7)

    evaluator = Evaluator(dict(type=TipMetric))
    evaluator.process([first])
    evaluator.process([second])
    metrics = evaluator.evaluate(2)

    assert metrics['images'] == 2 and metrics['tips'] == 3
    assert metrics['tip/acc@3um'] == pytest.approx(200 / 3)
    assert metrics['tip/acc@5um'] == 100
    assert metrics['tip/error_um'] == pytest.approx(4 / 3, abs=1e-4)
    assert metrics['open/count_acc'] == 100  # a score of float32 0.7 reaches a threshold of 0.7
    records = evaluator.metrics[0].records
    np.testing.assert_allclose(records[0].true, [[10, 20], [70, 40]], atol=1e-4)
    np.testing.assert_allclose(records[0].cnr, [0.5, 3])
    assert records[1].cnr is None and records[1].frame == 1
    np.testing.assert_allclose(known_count(records[1]), [4], atol=1e-4)


def test_open_count_agrees_with_detected():
    sample = make_sample([[10.0, 20.0]])
    scores = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    metric = TipMetric()
    for threshold in scores.tolist() + [0.1, 0.2, 0.3, 0.6, 0.7, 0.9]:
        sample.set_prediction(torch.zeros(6, 2), scores, threshold)
        metric.process(None, [sample.to_dict()])
        record = metric.results[-1]
        assert (record.scores >= record.score_threshold).sum() == len(sample.detected)


def test_empty_image_and_no_scale():
    sample = make_sample(np.zeros((0, 2)), pixel_size_um=None)
    sample.set_prediction(torch.zeros(1, 2), torch.ones(1), threshold=0.5)
    metric = TipMetric()
    metric.process(None, [sample.to_dict()])
    metrics = metric.evaluate(1)
    assert metrics['open/ghosts_per_image'] == 1 and metrics['tips'] == 0
    assert 'open/precision@5px' in metrics


def test_sample_without_a_prediction_failed():
    metric = TipMetric()
    metric.process(None, [make_sample([[10.0, 20.0]]).to_dict()])
    metrics = metric.evaluate(1)
    assert metrics['tip/acc@10um'] == 0 and metrics['tip/missed'] == 100
    assert metric.records[0].failed


def test_records_are_of_the_last_evaluation():
    metric = TipMetric()
    for count in (2, 1):
        for index in range(count):
            metric.process(None, [make_sample([[10.0, 20.0]], index).to_dict()])
        metric.evaluate(count)
        assert len(metric.records) == count
