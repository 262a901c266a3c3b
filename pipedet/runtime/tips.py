"""The answer about one image, whatever computed it, and the reasons to give none."""

from dataclasses import dataclass

import numpy as np

from pipedet.runtime.lines import dead_lines

_MOST_DEAD = 0.25  # of the lines; what is filled in between so many is a guess


@dataclass
class Tips:
    """The tips of one image, best first; none where the localiser abstains.

    Attributes:
        points_px: (N, 2), (x, y) pixels of the image as given.
        scores: (N,) in [0, 1].
        points_um: (N, 2), `points_px` times the pixel size, or None for an image without a scale.
        covariance_px: (N, 2, 2) px^2, how sure each place is; None if the model does not say.
        direction: (N, 2), unit vectors from the tip back along the shaft, or None.
        z_um: (N,) heights above the focus, or None.
        kind: (N,) numbers of the kinds that a CenterNet tells apart, or None.
        confidence: the chance that these are all the tips, each closer than 10 um, and nothing else
            is among them; where too little of it is why there are none, of those held back. None if
            the model does not say.
        dead_lines: rows and columns of the image without a signal, which were filled in from those
            beside them before the network saw it.
        abstained: why no answer is given, or None where one is. No tips without it means that there
            are none.
    """

    points_px: np.ndarray
    scores: np.ndarray
    points_um: np.ndarray | None
    covariance_px: np.ndarray | None = None
    direction: np.ndarray | None = None
    z_um: np.ndarray | None = None
    kind: np.ndarray | None = None
    confidence: float | None = None
    dead_lines: int = 0
    abstained: str | None = None


def no_answer(reason: str, pixel_size_um: tuple[float, float] | None) -> Tips:
    """Return the answer to an image that no network need look at."""
    empty = np.empty((0, 2), np.float32)
    return Tips(
        points_px=empty,
        scores=np.empty(0, np.float32),
        points_um=None if pixel_size_um is None else empty,
        abstained=reason,
    )


def why_unusable(image: np.ndarray) -> str | None:
    """Say why no network need look at an image, or None.

    Raises:
        TypeError: it is no numpy array.
        ValueError: it is no (H, W) of real numbers.
    """
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray):
        kind = type(image).__name__
        raise TypeError(f'an image is a numpy array (H, W), one frame at a time; this is a {kind}')
    if image.ndim != 2 or min(image.shape) < 2:
        raise ValueError(
            f'an image is (H, W); this array is {image.shape}: pass one channel, one frame of it'
        )
    if image.dtype.kind not in 'biuf':
        raise ValueError(f'an image is of real numbers; this array is of {image.dtype}')
    if not np.isfinite(image).all():
        return 'the image holds NaN or infinite pixels'
    with np.errstate(over='ignore', invalid='ignore'):
        darkest, brightest = np.float32(image.min()), np.float32(image.max())  # as networks see it
        if not np.isfinite([brightest - darkest, brightest + darkest]).all():
            return 'the image holds pixels beyond single precision'
    if darkest == brightest:
        return 'the image is uniform'
    rows, columns = dead_lines(image)
    if max(rows.mean(), columns.mean()) > _MOST_DEAD:
        return f'{rows.sum()} rows and {columns.sum()} columns of the image carry no signal'
    return None


def why_unlike(novelty: float) -> str | None:
    """Say why what a network finds in an image of that novelty is not given out, or None."""
    if novelty > 1:
        return f'the image is unlike those trained on (novelty {novelty:.2f}; up to 1 is known)'
    return None


def why_unsure(confidence: float | None, least: float | None) -> str | None:
    """Say why an answer of that confidence is held back where `least` is asked for, or None."""
    if least is not None and confidence is not None and confidence < least:
        return f'the confidence is {confidence:.2f}, below the {least:g} asked for'
    return None


def check_share(value: float, name: str) -> float:
    """Return a threshold of scores or confidences, of which each is a chance.

    Raises:
        ValueError: it is none; `name` says whose.
    """
    if not 0 <= value <= 1:
        raise ValueError(f'{name}: between 0 and 1, not {value}')
    return value
