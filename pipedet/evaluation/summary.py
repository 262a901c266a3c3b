"""Sum up evaluated images into the numbers of the paper's Table II, and those of the open count.

Every metric but the median is a ratio of two sums over images, so one set of per-image terms serves
both the estimate and its bootstrap. Known-count metrics are named `tip/...`, open-count ones
`open/...`; images without a scale are summed apart, with `px` in place of `um` in the names.
`heatmap/iou` is the mean overlap of drawn and true heatmap, of detectors that draw one.
`tip/error_um` is the mean Euclidean distance that the paper prints as "MSE". A missed tip is wrong
at every threshold; having no distance, it is in `tip/missed` and not in the error or the median.
`tip/error@10um` is the mean over the tips closer than that: how exact a find is, while the mean is
mostly how far off the others are.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress

import numpy as np
from scipy.stats import binomtest

from pipedet.evaluation.protocols import TipRecord, known_count, open_count

THRESHOLDS = (3, 5, 10)
FOUND = 10  # a tip nearer than this was found
OPEN_RADII = (5, 10)
MIN_SESSIONS = 10
CNR_BANDS = {
    '<0.3': (-np.inf, 0.3),
    '0.3-1': (0.3, 1),
    '1-2': (1, 2),
    '>=2': (2, np.inf),
    '>=1': (1, np.inf),
}

_SHARES = ('tip/acc@', 'tip/missed', 'open/precision@', 'open/recall@', 'open/count_acc')

Terms = dict[str, tuple[float, float]]  # metric -> (numerator, denominator)


def summarise(records: Sequence[TipRecord]) -> dict[str, float]:
    """Return every metric that has data; shares are in percent.

    `open/ghosts_per_image` counts the detections without a tip at 10 um (10 px without a scale).
    """
    tips = [(record.unit, known_count(record)) for record in records]
    return {
        'images': len(records),
        **_summarise_tips(tips),
        **_ratios(_open_terms(record) for record in records),
        **_ratios(_heatmap_terms(record) for record in records),
    }


def by_session(records: Sequence[TipRecord]) -> dict[str, dict[str, float]]:
    """Summarise each recording session."""
    return _summarise_groups(records, lambda record: record.session)


def by_count(records: Sequence[TipRecord]) -> dict[int, dict[str, float]]:
    """Summarise the images of each true number of tips."""
    return _summarise_groups(records, lambda record: len(record.true))


def by_cnr(records: Sequence[TipRecord]) -> dict[str, dict[str, float]]:
    """Summarise the tips in each of `CNR_BANDS`.

    Tips are matched among all tips of their image and selected afterwards: matching a band alone
    would let a faint tip take the prediction that belongs to a bright one. In the open count what
    is answered for a tip of another band is neither right nor wrong, and what is none is charged to
    every band.
    """
    known = [record for record in records if record.cnr is not None]
    bands = {}
    for band in CNR_BANDS:
        tips = [(r.unit, known_count(r)[_in_band(r.cnr, band)]) for r in known]
        bands[band] = _summarise_tips(tips)
        if bands[band]['tips']:
            bands[band] |= _ratios(_open_terms(r, _in_band(r.cnr, band)) for r in known)
    return bands


def bootstrap(
    records: Sequence[TipRecord], statistic: str, n: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of one metric of `summarise`, named by its key.

    Frames of a session share brain, dye and pipettes and are not independent: drawing them one by
    one would promise too narrow an interval. So whole sessions are drawn, unless there are fewer
    than `MIN_SESSIONS`, too few to draw from; then images are, and the interval is optimistic.
    A share of all tips or of none is the same in every draw: its interval is Wilson's, of as many
    independent images, which is optimistic too.
    """
    return _bootstrap(records, [_terms(record) for record in records], statistic, n, seed)


def intervals(
    records: Sequence[TipRecord], band: str | None = None
) -> dict[str, tuple[float, float]]:
    """Return the `bootstrap` of every ratio of `summarise`, or of a band's in `by_cnr`.

    A ratio of which all draws agree and that is no share has none.
    """
    records = [record for record in records if band is None or record.cnr is not None]
    terms = [_terms(record, band) for record in records]
    keys = sorted({key for own in terms for key, (_, bottom) in own.items() if bottom})
    found = {key: _bootstrap(records, terms, key) for key in keys}
    return {key: (low, high) for key, (low, high) in found.items() if low < high}


def _bootstrap(
    records: Sequence[TipRecord],
    terms: Sequence[Terms],
    statistic: str,
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    sums = _session_sums(records, terms, statistic)
    drawn = _drawn(len(sums), n, seed) @ sums  # (n, 2)
    low, high = _interval(drawn, np.zeros_like(drawn) + (0, 1))
    if statistic.startswith(_SHARES) and low == high and low in (0, 100):
        images = sum(own.get(statistic, (0.0, 0.0))[1] > 0 for own in terms)
        share = binomtest(images if low else 0, images).proportion_ci(method='wilson')
        return 100 * float(share.low), 100 * float(share.high)
    return low, high


def paired_bootstrap(
    ours: Sequence[TipRecord],
    theirs: Sequence[TipRecord],
    statistic: str,
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return how much larger a metric is for `ours`, and the 95 % interval of the difference.

    Both must be of the same images in the same order: what is hard for both is drawn for both.
    """
    if not same_images(ours, theirs):
        raise ValueError('the two were tested on different images: test both on the same')
    first, second = (
        _session_sums(records, [_terms(record) for record in records], statistic)
        for records in (ours, theirs)
    )
    counts = _drawn(len(first), n, seed)
    difference = np.subtract(*(np.divide(*sums.sum(axis=0)) for sums in (first, second)))
    return float(difference), *_interval(counts @ first, counts @ second)


def same_images(ours: Sequence[TipRecord], theirs: Sequence[TipRecord]) -> bool:
    """Return whether both are of the same images, tips and scales, in the same order."""

    def about(record: TipRecord) -> tuple:
        known = record.source, record.frame, record.session, record.subset, record.pixel_size_um
        return *known, len(record.true)

    # Each model's images went through a resize of its own: tips come back to a fraction of a pixel.
    return [*map(about, ours)] == [*map(about, theirs)] and all(
        np.allclose(a.true, b.true, rtol=0, atol=0.01) for a, b in zip(ours, theirs, strict=True)
    )


def _session_sums(
    records: Sequence[TipRecord], terms: Sequence[Terms], statistic: str
) -> np.ndarray:
    """Return numerator and denominator, (G, 2), of every session, or of every image of few."""
    unit = statistic[-2:]
    scaled = [unit not in ('um', 'px') or record.unit == unit for record in records]
    image_terms = [own.get(statistic, (0.0, 0.0)) for own in compress(terms, scaled)]
    records = list(compress(records, scaled))
    if not any(denominator for _, denominator in image_terms):
        raise ValueError(f'no image has data for a ratio named {statistic!r}')
    names, groups = np.unique([record.session for record in records], return_inverse=True)
    if len(names) < MIN_SESSIONS:
        groups = np.arange(len(records))
    sums = np.zeros((groups.max() + 1, 2))
    np.add.at(sums, groups, image_terms)
    return sums


@lru_cache(maxsize=8)  # the same for every metric
def _drawn(groups: int, n: int, seed: int) -> np.ndarray:
    """Return how often each group is drawn, (n, groups): all that a resample of ratios needs."""
    return np.random.default_rng(seed).multinomial(groups, [1 / groups] * groups, size=n)


def _interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two resampled ratios, (n, 2) each."""
    drawable = (first[:, 1] > 0) & (second[:, 1] > 0)
    ratios = (sums[drawable, 0] / sums[drawable, 1] for sums in (first, second))
    low, high = np.percentile(np.subtract(*ratios), [2.5, 97.5])
    return float(low), float(high)


def _in_band(cnr: np.ndarray, band: str) -> np.ndarray:
    low, high = CNR_BANDS[band]
    return (cnr >= low) & ((cnr < high) | (high == np.inf))


def _terms(record: TipRecord, band: str | None = None) -> Terms:
    if band is not None:
        counted = _in_band(record.cnr, band)
        tips = _tip_terms(record.unit, known_count(record)[counted])
        return tips | _open_terms(record, counted)
    return {
        **_tip_terms(record.unit, known_count(record)),
        **_open_terms(record),
        **_heatmap_terms(record),
    }


def _tip_terms(unit: str, distances: np.ndarray) -> Terms:
    """Terms of the (N,) known-count distances of one image."""
    found = distances[np.isfinite(distances)]
    terms = {
        f'tip/acc@{threshold}{unit}': (100.0 * (distances < threshold).sum(), len(distances))
        for threshold in THRESHOLDS
    }
    terms[f'tip/error_{unit}'] = (found.sum(), len(found))
    near = distances[distances < FOUND]
    terms[f'tip/error@{FOUND}{unit}'] = (near.sum(), len(near))
    terms['tip/missed'] = (100.0 * (len(distances) - len(found)), len(distances))
    return terms


def _open_terms(record: TipRecord, counted: np.ndarray | None = None) -> Terms:
    """Terms of what the detector chose to report on one image, of all tips or of those counted."""
    terms = {}
    for radius in OPEN_RADII:
        hits, n_pred, n_true = open_count(record, radius, counted)
        end = f'{radius}{record.unit}'
        terms[f'open/precision@{end}'] = (100.0 * hits, n_pred)
        terms[f'open/recall@{end}'] = (100.0 * hits, n_true)
        terms[f'open/f1@{end}'] = (200.0 * hits, n_pred + n_true)
    # A crash on an empty frame is not a correct "none".
    terms['open/count_acc'] = (100.0 * (n_pred == n_true and not record.failed), 1)
    terms['open/ghosts_per_image'] = (n_pred - hits, 1)  # at the largest radius
    return terms


def _heatmap_terms(record: TipRecord) -> Terms:
    return {} if record.heatmap_iou is None else {'heatmap/iou': (record.heatmap_iou, 1)}


def _ratios(image_terms: Iterable[Terms]) -> dict[str, float]:
    """Sum numerators and denominators over images and divide, leaving out what has no data."""
    sums = defaultdict(lambda: np.zeros(2))
    for terms in image_terms:
        for key, term in terms.items():
            sums[key] += term
    return {key: float(top / bottom) for key, (top, bottom) in sums.items() if bottom > 0}


def _summarise_tips(tips: Sequence[tuple[str, np.ndarray]]) -> dict[str, float]:
    """Summarise (unit, distances) of each image by the known-count protocol."""
    summary = {'tips': sum(len(distances) for _, distances in tips)}
    summary |= _ratios(_tip_terms(unit, distances) for unit, distances in tips)
    for unit in ('um', 'px'):
        chosen = np.concatenate([[], *(distances for own, distances in tips if own == unit)])
        found = chosen[np.isfinite(chosen)]
        if len(found):
            summary[f'tip/median_{unit}'] = float(np.median(found))
    return summary


def _summarise_groups(records: Sequence[TipRecord], key: Callable) -> dict:
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return {name: summarise(groups[name]) for name in sorted(groups)}
