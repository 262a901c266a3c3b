"""What scores and covariances promise, compared with what they keep.

A score promises the chance that its candidate is a tip, closer than `RADIUS_UM`. A covariance
promises that its 90 % ellipse holds the tip in nine of ten cases. A confidence promises the chance
that the answer to a whole image is right, see `protocols.is_right`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import expit, logit
from scipy.stats import chi2

from pipedet.evaluation.metrics import to_record
from pipedet.evaluation.protocols import is_right
from pipedet.structures import TipDataSample, apply_affine

RADIUS_UM = 5.0
FOUND_UM = 10.0  # what is farther off is another thing than noise
LEVEL = 0.9


@dataclass
class Judged:
    """The candidates of many images, and what they turned out to be.

    Attributes:
        scores: (M,).
        correct: (M,), whether a candidate is the one of a tip closer than `RADIUS_UM`.
        tips: how many tips there were.
        offsets: (P, 2) px, from tip to candidate, of pairs closer than `FOUND_UM`.
        covariances: (P, 2, 2) px^2, of the candidates in those pairs.
    """

    scores: np.ndarray
    correct: np.ndarray
    tips: int
    offsets: np.ndarray
    covariances: np.ndarray


def judge(samples: Iterable[TipDataSample]) -> Judged:
    """Pair candidates with tips, one to one, nearest in total; beyond 100 um all is alike.

    Raises:
        ValueError: no image has a scale.
    """
    scores, correct, offsets, covariances, tips = [], [], [], [], 0
    for sample in samples:
        if sample.pixel_size_um is None:
            continue  # near is a matter of um
        found = sample.pred_tips
        true = apply_affine(np.linalg.inv(sample.matrix), sample.gt_tips.points.numpy())
        away = found.points.numpy()[:, None] - true.reshape(-1, 2)[None]  # (M, N, 2)
        apart = np.linalg.norm(away * sample.pixel_size_um, axis=-1)
        rows, columns = linear_sum_assignment(np.minimum(apart, 10 * FOUND_UM))
        own = np.full(len(found), np.inf)
        own[rows] = apart[rows, columns]
        scores.append(found.scores.numpy())
        correct.append(own < RADIUS_UM)
        near = apart[rows, columns] < FOUND_UM
        offsets.append(away[rows[near], columns[near]])
        covariances.append(found.covariance.numpy()[rows[near]])
        tips += len(true)
    if not scores:
        raise ValueError('no image says how large its pixels are: near is a matter of um')
    return Judged(
        *(np.concatenate(parts) for parts in (scores, correct)),
        tips,
        *(np.concatenate(parts) for parts in (offsets, covariances)),
    )


def judge_answers(samples: Iterable[TipDataSample]) -> tuple[list[float], list[bool]]:
    """Return confidence in and correctness of whole answers, to the images that have a scale."""
    scaled = [sample for sample in samples if sample.pixel_size_um is not None]
    return [sample.confidence for sample in scaled], rights(scaled)


def rights(samples: Iterable[TipDataSample]) -> list[bool]:
    """Return whether the answers to images with a scale are right."""
    return [is_right(to_record(sample.to_dict()), FOUND_UM) for sample in samples]


def fit_chances(scores: Sequence[float], correct: Sequence[bool]) -> tuple[float, float]:
    """Return scale and shift of log-odds that make scores chances (Platt 1999).

    With his targets, which a few images that happen to be told apart cannot make certainties.

    Raises:
        ValueError: none is right, or none is wrong: there is nothing to learn from.
    """
    correct = np.asarray(correct, bool)
    if correct.all() or not correct.any():
        raise ValueError(f'{correct.sum()} of {len(correct)} are right: nothing to calibrate by')
    odds = logit(np.clip(np.asarray(scores, float), 1e-6, 1 - 1e-6))
    right, wrong = correct.sum(), (~correct).sum()
    target = np.where(correct, (right + 1) / (right + 2), 1 / (wrong + 2))

    def unlikelihood(parameters: np.ndarray) -> float:
        chance = expit(np.exp(parameters[0]) * odds + parameters[1])
        chance = np.clip(chance, 1e-9, 1 - 1e-9)
        return -(target * np.log(chance) + (1 - target) * np.log(1 - chance)).mean()

    # The scale by its logarithm: a better score must not become a worse chance.
    log_scale, shift = minimize(unlikelihood, (0.0, 0.0), method='Nelder-Mead').x
    return float(np.exp(log_scale)), float(shift)


def fit_spread(judged: Judged) -> float:
    """Return the factor on covariances whose ellipses hold the share `LEVEL` of tips."""
    return float(np.quantile(_squared(judged), LEVEL) / chi2.ppf(LEVEL, df=2))


def coverage(judged: Judged) -> float:
    """Return the share of pairs whose tip lies in the ellipse of `LEVEL`."""
    return float((_squared(judged) <= chi2.ppf(LEVEL, df=2)).mean())


def calibration_error(scores: Sequence[float], correct: Sequence[bool], bins: int = 10) -> float:
    """Return the mean gap of score and share correct over bins of equal count (ECE)."""
    order = np.argsort(scores)
    scores, correct = np.asarray(scores)[order], np.asarray(correct, float)[order]
    parts = [p for p in np.array_split(np.arange(len(order)), bins) if len(p)]
    gaps = [abs(scores[p].mean() - correct[p].mean()) * len(p) for p in parts]
    return float(sum(gaps) / len(order))


def risk_coverage_area(scores: Sequence[float], correct: Sequence[bool]) -> float:
    """Return the share that is wrong among the k best scores, averaged over every k (AURC).

    What it costs to let the detector speak only when it is sure of itself, whatever the threshold
    (Geifman and El-Yaniv 2017): 0 where every right candidate scores above every wrong one, and
    there are no wrong ones.
    """
    wrong = ~np.asarray(correct, bool)[np.argsort(-np.asarray(scores), kind='stable')]
    return float((wrong.cumsum() / np.arange(1, len(wrong) + 1)).mean())


def _squared(judged: Judged) -> np.ndarray:
    """Return squared Mahalanobis distances, (P,)."""
    solved = np.linalg.solve(judged.covariances, judged.offsets[..., None])[..., 0]
    return (judged.offsets * solved).sum(axis=1)
