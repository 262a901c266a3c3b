"""Compare the predicted and the true tips of one image, by two protocols that are never mixed.

*Known count* is the paper's (section IV.D, "minimal matching"): as many predictions as true tips.
*Open count* lets the detector decide how many tips there are, and charges it for ghosts. A pair
counts when its distance is below the radius, as in the paper. Distances are in um through
`pixel_size_um`, in pixels of the original image where the record has no scale.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

_EDGE = 1e-3  # too little to be worth a pair, whatever the number of tips


@dataclass(kw_only=True, eq=False)
class TipRecord:
    """One evaluated image; points are (x, y) pixels of the original image.

    A prediction with a coordinate or a score that is not finite counts as absent.
    """

    source: str
    frame: int
    session: str
    subset: str
    pixel_size_um: tuple[float, float] | None  # (x, y)
    true: np.ndarray  # (N, 2)
    pred: np.ndarray  # (M, 2), best score first
    scores: np.ndarray  # (M,)
    score_threshold: float  # the detector stands by what scores at least this
    cnr: np.ndarray | None  # (N,), NaN where unknown
    failed: bool = False  # the prediction raised: every tip is missed
    abstained: bool = False  # left to itself the detector gives no answer here
    heatmap_iou: float | None = None  # None without tips, or without a heatmap

    def __post_init__(self) -> None:
        self.true = np.asarray(self.true, np.float64).reshape(-1, 2)
        self.pred = np.asarray(self.pred, np.float64).reshape(-1, 2)
        self.scores = np.asarray(self.scores, np.float64).reshape(-1)
        self.score_threshold = float(self.score_threshold)
        name = f'{self.source}, frame {self.frame}'
        if not np.isfinite(self.true).all():
            raise ValueError(f'{name}: a true tip is not finite')
        if len(self.pred) != len(self.scores):
            raise ValueError(f'{name}: {len(self.pred)} predictions, {len(self.scores)} scores')
        if self.cnr is not None:
            self.cnr = np.asarray(self.cnr, np.float64).reshape(-1)
            if len(self.cnr) != len(self.true):
                raise ValueError(f'{name}: {len(self.true)} true tips, {len(self.cnr)} CNRs')
        if self.pixel_size_um is not None:
            size_x, size_y = self.pixel_size_um
            self.pixel_size_um = (float(size_x), float(size_y))
            if not all(0 < size < np.inf for size in self.pixel_size_um):
                raise ValueError(f'{name}: pixel_size_um {self.pixel_size_um} is not a size')

    @property
    def unit(self) -> str:
        """The unit of this image's distances: 'um', or 'px' without a scale."""
        return 'px' if self.pixel_size_um is None else 'um'


def known_count(record: TipRecord) -> np.ndarray:
    """Return the (N,) distance from each true tip to its prediction, inf where there is none.

    Takes the N best-scoring predictions and the one-to-one matching of least total distance.
    """
    return known_count_scored(record)[0]


def known_count_scored(record: TipRecord) -> tuple[np.ndarray, np.ndarray]:
    """Return what `known_count` does, and the (N,) score of each prediction, 0 where none is."""
    pred, scores = _candidates(record)
    distances = _distances(record, pred[: len(record.true)])
    matched, believed = np.full(len(record.true), np.inf), np.zeros(len(record.true))
    rows, columns = linear_sum_assignment(distances)
    matched[rows], believed[rows] = distances[rows, columns], scores[columns]
    return matched, believed


def open_count(
    record: TipRecord, radius: float, counted: np.ndarray | None = None
) -> tuple[int, int, int]:
    """Return (hits, n_pred, n_true) at the detector's own operating point.

    An image that it does not answer has no predictions.

    `hits` is the largest number of one-to-one pairs closer than `radius`: the matching of least
    total distance may give up a good pair for two bad ones.

    Args:
        record: of the image.
        radius: in its unit.
        counted: (N,) bool, the tips that count; a prediction of another one is neither a hit nor
            wrong. None for all.
    """
    pred, scores = _candidates(record)
    pred = pred[(scores >= record.score_threshold) & (not record.abstained)]
    counted = np.ones(len(record.true), bool) if counted is None else counted
    within = _distances(record, pred) < radius
    # Of as many pairs those with tips that count.
    rows, columns = linear_sum_assignment(within * (1 + _EDGE * counted[:, None]), maximize=True)
    paired = within[rows, columns]
    hits = int(paired[counted[rows]].sum())
    return hits, len(pred) - int(paired.sum()) + hits, int(counted.sum())


def is_right(record: TipRecord, radius: float) -> bool:
    """Return whether the tips stood by are those that there are, each closer than `radius`."""
    hits, n_pred, n_true = open_count(record, radius)
    return hits == n_pred == n_true


def _candidates(record: TipRecord) -> tuple[np.ndarray, np.ndarray]:
    """Finite predictions (M, 2) and scores (M,), best first; none where prediction failed."""
    finite = np.isfinite(record.pred).all(axis=1) & np.isfinite(record.scores)
    usable = np.flatnonzero(finite & (not record.failed))
    order = usable[np.argsort(-record.scores[usable], kind='stable')]
    return record.pred[order], record.scores[order]


def _distances(record: TipRecord, pred: np.ndarray) -> np.ndarray:
    """Distances (N, M) in the record's unit."""
    offsets = record.true[:, None] - pred[None]
    if record.pixel_size_um is not None:
        offsets = offsets * record.pixel_size_um
    return np.hypot(offsets[..., 0], offsets[..., 1])
