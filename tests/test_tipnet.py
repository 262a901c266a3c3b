"""TipNet: what it reads from its maps, what it learns, and what a calibration makes of it."""

import math

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from pipedet.evaluation import calibration
from pipedet.models import PeakFocalLoss, TimmPyramid, TipHead, TipNet
from pipedet.models.answers import AnswerJudge
from pipedet.models.heatmaps import draw_gaussians
from pipedet.models.losses import quality_focal
from pipedet.models.novelty import Novelty
from pipedet.models.tip_detector import _inside
from pipedet.models.tip_head import Unread, covariance
from pipedet.structures import TipDataSample

HEAD = dict(
    hidden=8,
    sigma=5.0,
    separation=8.0,
    blur=0.8,
    reach=7.0,
    loss=dict(type=PeakFocalLoss),
    weights=dict(place=1.0, direction=1.0, height=1.0),
)
TIPS = torch.tensor([[20.3, 31.7], [50.0, 12.4]])
ANGLES = torch.tensor([0.4, 2.5])


def head(**changes):
    return TipHead(in_channels=4, stride=4, **HEAD | changes)


def labels(**fields):
    return InstanceData(points=TIPS, **fields)


def directions():
    return torch.stack([ANGLES.cos(), ANGLES.sin()], dim=-1)


def perfect_maps(sigma_px=0.5):
    """Maps of 16x16 cells that describe the nearer tip everywhere, and are sure of it."""
    heat = draw_gaussians([TIPS], (16, 16), sigma=5.0, stride=4, merge='max')
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij')
    cells = torch.stack([x, y], dim=-1)
    inputs = (cells + 0.5) * 4 - 0.5
    nearest = (inputs[..., None, :] - TIPS).norm(dim=-1).argmin(dim=-1)
    place = (TIPS[nearest] + 0.5) / 4 - 0.5 - cells
    sharp = torch.full((16, 16, 1), -2 * math.log(sigma_px))
    parts = [place, sharp, torch.zeros(16, 16, 2), directions()[nearest]]
    described = torch.cat([*parts, torch.full((16, 16, 1), 0.6)], dim=-1)
    return torch.cat([heat.logit(1e-4), described.permute(2, 0, 1)[None]], dim=1)


def test_perfect_maps_are_read_exactly():
    points, scores, fields = head().read(perfect_maps(), 4)
    assert (scores[0] > 0).tolist() == [True, True, False, False]
    order = points[0, :2, 0].argsort()
    assert torch.allclose(points[0, order], TIPS, atol=1e-3)
    assert torch.allclose(fields['direction'][0, order], directions(), atol=1e-5)
    assert torch.allclose(fields['covariance'][0, :2], 0.25 * torch.eye(2), atol=1e-5)
    assert torch.allclose(fields['z_um'][0, :2], torch.tensor(3.0))


def test_maps_made_at_the_peaks_alone_are_read_alike():
    torch.manual_seed(0)
    own = head()
    torch.nn.init.normal_(own.describe[2].weight)
    features = torch.randn(2, 4, 6, 9)  # so small that peaks lie at the border
    with torch.no_grad():
        whole, alone = own.read(own(features), 8), own.read(Unread(features), 8)
    assert torch.allclose(whole[0], alone[0], atol=1e-4) and torch.equal(whole[1], alone[1])
    assert (whole[1] > 0).sum() > 4
    for name, values in whole[2].items():
        assert torch.allclose(values, alone[2][name], rtol=1e-3, atol=1e-4), name


def test_true_places_cost_least_and_any_order_the_same():
    maps, own = perfect_maps().requires_grad_(), head()
    known = dict(direction=directions(), z_um=torch.tensor([3.0, 3.0]))
    losses = own.loss(maps, [labels(**known)])
    sum(losses[f'loss_{name}'] for name in ('direction', 'height')).backward(retain_graph=True)
    assert maps.grad.abs().max() < 1e-6
    maps.grad = None
    losses['loss_place'].backward()
    assert maps.grad[:, 1:3].abs().max() < 1e-4  # no other place is likelier
    turned = labels(**known)[[1, 0]]
    assert all(torch.isclose(own.loss(maps, [turned])[k], losses[k]) for k in losses)


def test_what_is_not_known_of_a_tip_costs_nothing():
    losses = head().loss(perfect_maps(), [labels()])
    assert losses['loss_direction'] == losses['loss_height'] == 0
    assert losses['loss_place'].isfinite()


def test_likelihood_finds_the_spread_of_what_it_is_off_by():
    torch.manual_seed(0)
    own, true_sigma = head(), 2.0
    logs = torch.zeros(2, requires_grad=True)  # of 1 / sigma^2: its mean, and x against y
    optimiser = torch.optim.Adam([logs], lr=0.05)
    for _ in range(200):
        maps = perfect_maps().clone()
        maps[:, 1:3] += true_sigma / 4 * torch.randn(1, 2, 16, 16)
        maps[:, 3], maps[:, 4] = logs[0], logs[1]
        optimiser.zero_grad()
        own.loss(maps, [labels()])['loss_place'].backward()
        optimiser.step()
    assert torch.allclose((-logs[0] / 2).exp(), torch.tensor(true_sigma), rtol=0.15)
    assert logs[1].abs() < 0.3


def test_covariance_is_the_exponential_of_the_maps():
    torch.manual_seed(0)
    spread = torch.randn(5, 3)
    mean, half, beside = spread.T
    logarithm = torch.stack([mean + half, beside, beside, mean - half], dim=-1).view(5, 2, 2)
    assert torch.allclose(covariance(spread), torch.linalg.matrix_exp(-logarithm), rtol=1e-4)
    round_and_long = covariance(torch.tensor([[0.0, 0.0, 0.0], [0.0, 1e6, 0.0]]))
    assert torch.allclose(round_and_long[0], torch.eye(2))
    assert round_and_long.isfinite().all()


def test_what_was_added_to_fit_the_network_has_no_tips():
    points = torch.tensor([[[3.0, 9.0], [3.0, 11.0]], [[3.0, 9.0], [3.0, 11.0]]])
    scores = _inside(points, torch.full((2, 2), 0.5), [(10, 20), (12, 20)])
    assert scores.tolist() == [[0.5, 0.0], [0.5, 0.5]]
    torch.manual_seed(0)
    model, images = detector().eval(), torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        whole, cut = model.locate(images, (64, 64)), model.locate(images, (40, 64))
    beyond = whole['points'][..., 1] > 39.5
    assert (whole['scores'][beyond] > 0).any() and (cut['scores'][beyond] == 0).all()
    assert torch.equal(cut['scores'][~beyond], whole['scores'][~beyond])
    assert not torch.equal(cut['confidence'], whole['confidence'])


def detector():
    encoder = dict(
        type=TimmPyramid,
        name='mobilenetv4_conv_small',
        levels=(1, 2),
        channels=8,
        pretrained=False,
        equivariant=True,
    )
    return TipNet(
        enhancer=None,
        encoder=encoder,
        head=dict(type=TipHead, **HEAD),
        max_tips=4,
        score_threshold=0.0,
    )


def sample(size=(64, 64), matrix=None, **tips):
    made = TipDataSample(
        metainfo=dict(
            matrix=np.eye(3) if matrix is None else matrix, pixel_size_um=(0.5, 0.5), img_shape=size
        )
    )
    made.gt_tips = InstanceData(points=TIPS, **tips)
    return made


def test_images_without_tips_train_and_all_parts_learn():
    torch.manual_seed(0)
    model = detector().train()
    empty = sample()
    empty.gt_tips = InstanceData(points=torch.empty(0, 2))
    for samples in ([empty], [empty, sample(direction=directions())]):
        inputs = torch.randn(len(samples), 1, 64, 64)
        losses = model(inputs, samples, mode='loss')
        sum(losses.values()).backward()
        assert all(value.isfinite() for value in losses.values())
    assert all(w.grad is not None and w.grad.isfinite().all() for w in model.parameters())


def test_a_network_learns_what_its_teacher_says_and_keeps_nothing_of_it():
    torch.manual_seed(0)
    student, teacher = detector().train(), detector()
    inputs, samples = torch.randn(2, 1, 64, 64), [sample(direction=directions())] * 2
    alone = student(inputs, samples, mode='loss')
    names = student.state_dict().keys()

    student.learn_from(teacher, share=0.5)
    taught = student(inputs, samples, mode='loss')
    assert torch.allclose(taught['loss_heatmap'], 0.5 * alone['loss_heatmap'])
    assert taught['loss_taught'] > 0
    assert student.state_dict().keys() == names  # the teacher is no part of it
    taught['loss_taught'].backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert student.head.heat[-1].weight.grad.abs().sum() > 0
    assert student.head.describe[-1].weight.grad.abs().sum() == 0  # it teaches the heatmap alone

    assert 'loss_taught' not in student.eval()(inputs, samples, mode='loss')  # labels validate
    coarse = detector()
    coarse.head.stride = 8
    with pytest.raises(ValueError, match='every 8 px'):
        student.learn_from(coarse, share=0.5)
    with pytest.raises(ValueError, match='between 0 and 1'):
        student.learn_from(teacher, share=2)


def test_who_agrees_with_the_teacher_has_nothing_to_learn():
    logits = torch.linspace(-8, 8, 33)
    assert float(quality_focal(logits, logits.sigmoid())) == pytest.approx(0, abs=1e-9)
    nearer, farther = (float(quality_focal(logits + far, logits.sigmoid())) for far in (0.5, 1))
    assert 0 < nearer < farther


def test_fields_turn_back_with_the_image():
    quarter = np.array([[0.0, -2.0, 100.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # turned, doubled
    made = sample(matrix=quarter)
    fields = dict(
        covariance=torch.tensor([[[4.0, 1.0], [1.0, 8.0]]]), direction=torch.tensor([[0.0, 1.0]])
    )
    made.set_prediction(torch.tensor([[60.0, 10.0]]), torch.ones(1), 0.5, fields)
    assert torch.allclose(made.pred_tips.points, torch.tensor([[5.0, 20.0]]))
    assert torch.allclose(made.pred_tips.direction, torch.tensor([[1.0, 0.0]]), atol=1e-6)
    assert torch.allclose(
        made.pred_tips.covariance, torch.tensor([[[2.0, -0.25], [-0.25, 1.0]]]), atol=1e-6
    )


def test_images_of_other_sizes_are_read_where_they_are():
    torch.manual_seed(0)
    model = detector().eval()
    small, large = torch.rand(1, 50, 70), torch.rand(1, 64, 96)
    samples = [sample((50, 70)), sample((64, 96))]
    both = model.data_preprocessor(dict(inputs=[small, large], data_samples=samples))['inputs']
    assert both.shape == (2, 1, 64, 96)
    alone = model.data_preprocessor(dict(inputs=[small], data_samples=samples[:1]))['inputs']
    assert alone.shape == (1, 1, 64, 80)
    assert torch.equal(both[0, :, :50, :70], alone[0, :, :50, :70])
    assert torch.equal(alone[0, 0, 49], alone[0, 0, 63])  # the last row goes on


def test_novelty_knows_what_it_has_seen():
    torch.manual_seed(0)
    novelty, mixing = Novelty(3), torch.randn(6, 6)
    known, held_out, others = (torch.randn(n, 6) @ mixing for n in (400, 400, 400))
    assert novelty(known).max() == 0  # before it is fitted, nothing is new
    novelty.fit([(known, held_out)])
    assert (novelty(others) > 1).float().mean() < 0.03
    assert (novelty(others + 40) > 1).all()


def test_between_two_kinds_that_are_known_lies_what_is_not():
    torch.manual_seed(0)
    novelty, apart = Novelty(3), torch.full((6,), 40.0)
    one, other = ([torch.randn(400, 6) + shift for _ in range(3)] for shift in (0, apart))
    novelty.fit([(kind[0], kind[1]) for kind in (one, other)])
    for kind in (one, other):
        assert (novelty(kind[2]) > 1).float().mean() < 0.03
        assert torch.allclose(novelty(kind[2])[:5], novelty(kind[2][:5]))
    assert (novelty(one[2] + apart / 2) > 1).all()


def test_novelty_of_as_many_kinds_as_were_saved_is_loaded():
    torch.manual_seed(0)
    kinds = [(torch.randn(50, 6), torch.randn(50, 6)) for _ in range(3)]
    three, fresh = Novelty(3), Novelty(3)
    three.fit(kinds)
    fresh.load_state_dict(three.state_dict())
    summaries = torch.randn(9, 6)
    assert torch.equal(fresh(summaries), three(summaries))


def test_calibration_makes_promises_kept():
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.02, 0.98, 20_000)
    correct = rng.random(20_000) < chance
    odds = np.log(chance / (1 - chance))
    overconfident = 1 / (1 + np.exp(-(2 * odds + 1)))
    factor = np.array([[1.0, 0.0], [0.6, 0.5]])
    judged = calibration.Judged(
        scores=overconfident,
        correct=correct,
        tips=int(correct.sum()),
        offsets=3 * rng.standard_normal((5000, 2)) @ factor.T,
        covariances=np.broadcast_to(factor @ factor.T, (5000, 2, 2)),
    )
    scale, shift = calibration.fit_chances(judged.scores, judged.correct)
    assert (scale, shift) == pytest.approx((0.5, -0.5), abs=0.05)
    assert calibration.calibration_error(overconfident, correct) > 0.05
    assert calibration.calibration_error(chance, correct) < 0.02
    assert calibration.fit_spread(judged) == pytest.approx(9, rel=0.05)
    assert calibration.coverage(judged) < 0.3


def confidence(model, scores):
    return model._confidence(scores, torch.zeros(len(scores), 2 * model.encoder.channels))


def test_an_answer_is_as_sure_as_all_it_says_together():
    model = detector()
    model.score_threshold = 0.7
    scores = torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.9, 0.6, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([0.9 * 0.8 * 0.9, 0.9 * 0.4, 1.0])
    assert torch.allclose(confidence(model, scores), expected, atol=1e-4)
    assert torch.equal(confidence(model, scores.flip(1)), confidence(model, scores))
    assert confidence(model, torch.full((1, 4), 0.99)) == 0  # there may be a fifth


def test_where_there_can_be_so_many_the_others_are_judged_as_none():
    model = detector()
    model.score_threshold = 0.7
    scores = torch.tensor([[0.8, 0.0, 0.9, 0.1], [0.9, 0.8, 0.8, 0.8]])
    model.most = 1
    assert model._best(scores).tolist() == torch.tensor([[0, 0, 0.9, 0], [0.9, 0, 0, 0]]).tolist()
    expected = torch.tensor([0.9 * 0.2 * 0.9, 0.9 * 0.2**3])
    assert torch.allclose(confidence(model, scores), expected, atol=1e-4)
    model.most = 4
    assert torch.allclose(confidence(model, scores)[1], torch.tensor(0.9 * 0.8**3), atol=1e-4)
    model.most = 5  # more than it can tell: there may be a fifth
    assert confidence(model, scores)[1] == 0


def answers(count, seed, plain):
    """Scores of three candidates, summaries of which one tells whether scores are too modest."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, 3, generator=generator)
    summary = torch.randn(count, 4, generator=generator)
    stood_by = scores >= 0.5
    odds = torch.where(stood_by, scores, 1 - scores).prod(dim=1).logit() + plain * summary[:, 2]
    right = torch.rand(count, generator=generator) < odds.sigmoid()
    return (scores, stood_by, summary), right, odds.sigmoid()


def test_a_judge_learns_in_which_images_scores_are_too_modest():
    judge = AnswerJudge(4)
    known, right, _ = answers(4000, seed=0, plain=2.0)
    judge.fit(*known, right)
    others, _, chance = answers(500, seed=1, plain=2.0)
    assert (judge(*others) - chance).abs().mean() < 0.04
    judge.forget()
    product = torch.where(others[1], others[0], 1 - others[0]).prod(dim=1)
    assert torch.allclose(judge(*others), product, atol=1e-4)
    assert (product - chance).abs().mean() > 0.1


def test_a_judge_of_few_answers_takes_scores_at_their_word():
    judge = AnswerJudge(4)
    for count in (1, 2):
        known, _, _ = answers(count, seed=0, plain=0.0)
        judge.fit(*known, torch.ones(count, dtype=torch.bool))
        product = torch.where(known[1], known[0], 1 - known[0]).prod(dim=1)
        assert (judge(*known) - product).abs().max() < 0.1


def test_a_judge_is_saved_with_the_weights():
    judge, trained = AnswerJudge(4), AnswerJudge(4)
    known, right, _ = answers(100, seed=0, plain=2.0)
    trained.fit(*known, right)
    judge.load_state_dict(trained.state_dict())
    assert torch.equal(judge(*known), trained(*known))
    with pytest.raises(RuntimeError, match='Missing key'):  # it is not made up
        AnswerJudge(4).load_state_dict({})


def test_judging_pairs_one_to_one():
    made = sample()
    points = TIPS + torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    twice = torch.cat([points, points[:1] + 3])  # a second answer for the first tip
    fields = dict(covariance=torch.eye(2).expand(3, 2, 2))
    made.set_prediction(twice, torch.tensor([0.9, 0.8, 0.7]), 0.5, fields)
    judged = calibration.judge([made])
    assert judged.correct.tolist() == [True, True, False]
    assert judged.tips == len(judged.offsets) == 2


def test_what_is_said_of_a_tip_turns_with_the_image():
    torch.manual_seed(0)
    model = detector().eval()
    model.encoder.apply(lambda m: setattr(m, 'track_running_stats', False))  # spread-out features
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        upright, turned, mirrored = (
            model._candidates(model._final(x), x.shape[-2:])
            for x in (images, images.rot90(1, (-2, -1)), images.flip(-1))
        )
    points, scores, fields = upright
    for other, linear, offset in (
        (turned, [[0.0, 1.0], [-1.0, 0.0]], [0.0, 63.0]),
        (mirrored, [[-1.0, 0.0], [0.0, 1.0]], [63.0, 0.0]),
    ):
        linear, offset = torch.tensor(linear), torch.tensor(offset)
        assert torch.allclose(other[1], scores, atol=1e-5)
        assert torch.allclose(other[0], points @ linear.mT + offset, atol=1e-3)
        direction = fields['direction'] @ linear.mT
        assert torch.allclose(other[2]['direction'], direction, atol=1e-3)
        spread = linear @ fields['covariance'] @ linear.mT
        assert torch.allclose(other[2]['covariance'], spread, rtol=1e-3, atol=1e-4)


def test_confidence_that_sorts_costs_least():
    area = calibration.risk_coverage_area
    assert area([0.9, 0.8, 0.7], [True, True, True]) == 0
    assert area([0.2, 0.1], [False, False]) == 1
    sorted_well, sorted_badly = (
        area([0.9, 0.8, 0.7, 0.6], c) for c in ([1, 1, 0, 0], [0, 0, 1, 1])
    )
    assert math.isclose(sorted_well, (0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert sorted_badly > sorted_well
    assert area([0.6, 0.9, 0.7, 0.8], [0, 1, 0, 1]) == sorted_well  # in any order


def test_few_candidates_that_are_told_apart_do_not_become_certainties():
    few = calibration.Judged(
        scores=np.array([0.9, 0.8, 0.2]),
        correct=np.array([True, True, False]),
        tips=2,
        offsets=np.empty((0, 2)),
        covariances=np.empty((0, 2, 2)),
    )
    scale, shift = calibration.fit_chances(few.scores, few.correct)
    odds = scale * np.log(few.scores / (1 - few.scores)) + shift
    chances = 1 / (1 + np.exp(-odds))
    assert (chances[:2] > 0.5).all() and chances.max() < 0.9 and chances[2] > 0.1
