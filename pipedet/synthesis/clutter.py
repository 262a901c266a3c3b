"""How well a pipette can be told from what else is bright or dark, and its tip located before it.

Noise is half of what hides a pipette: cells, vessels, dye and texture are the other. Here they are
one stationary random field of which an observer knows the power spectrum and nothing else, and the
observer is the best linear one, Hotelling's (Barrett and Myers 2004, Foundations of Image Science,
ch. 13). Images are taken as logarithms, in which a shaft adds to any background what it takes from
it. The other pipettes are known, and so are direction, shape and strength of this one to who is
asked whether it is there; jitter, digitiser and the detector's blur are not counted.

These are figures of second order and no bounds: a network that knows a cell for a cell is not
linear and may do better; one that has to search the frame and guess the shape will do worse.
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.stats import norm
from torch import Tensor

from pipedet.synthesis.limits import PARAMETERS, marginal, slope
from pipedet.synthesis.render import render
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import charge_variance

PERIOD = 384  # px, of the grid of frequencies: a frame of 256 and room between its repetitions
DARKEST = 1e-3  # brightness; nothing has no logarithm
_BLANK = 4.0  # variance of noise that darker pixels get too, for the solver's sake: 1 % of d'
_SLOWEST = 2  # cycles in a period; a window takes most of what is slower out of a background
_ENOUGH, _MOST = 5e-3, 300  # share of the residue at which the solver stops; steps it may take


def background_spectrum(backgrounds: Iterable[Tensor]) -> Tensor:
    """Return the mean power of the logarithm of backgrounds, at frequencies of `PERIOD` px.

    Args:
        backgrounds: expected brightness without pipettes, each (H, W), no side above `PERIOD`.

    Returns:
        (PERIOD, PERIOD), the same in every direction; its mean is the field's variance.
    """
    powers = []
    for brightness in backgrounds:
        field = brightness.double().clamp(min=DARKEST).log()
        rows, columns = (
            torch.hann_window(side, periodic=False, dtype=torch.float64) for side in field.shape
        )
        window = rows[:, None] * columns
        field = window * (field - (field * window).sum() / window.sum())
        power = torch.fft.fft2(field, s=(PERIOD, PERIOD)).abs().square()
        powers.append(power / window.square().sum())
    return _all_round(torch.stack(powers).mean(dim=0))


def detectability(scene: Scene, k: int, spectrum: Tensor) -> float:
    """Return d' of pipette `k`: in how many standard deviations an image says that it is there.

    All of it counts, shaft and mark and filling, however far from the tip.

    Args:
        scene: a batch of one.
        k: which pipette.
        spectrum: of the backgrounds, from `background_spectrum`.

    Raises:
        RuntimeError: the solver did not converge.
    """
    both = scene, scene.without(k)
    with_it, without = (render(s)[0].double().clamp(min=DARKEST) for s in both)
    change = (with_it / without).log()
    return float((change * _whitened(change, scene, with_it, spectrum)).sum().sqrt())


def found_among(d_prime: np.ndarray, places: float) -> np.ndarray:
    """Return how probably that observer, told the shape, finds a pipette in a frame to be searched.

    Its answer where the pipette is, normal about d', has to be above those at all other places,
    independent and normal about 0 (forced choice; Green and Swets 1966, ch. 2).

    Args:
        d_prime: of pipettes, (N,).
        places: other places and directions that count as independent.

    Returns:
        (N,) in [0, 1].
    """
    noise = np.linspace(-8, 8, 1601)
    highest = np.exp(places * norm.logcdf(np.asarray(d_prime)[:, None] + noise))
    return trapezoid(norm.pdf(noise) * highest, noise)


def cramer_rao_in_clutter(scene: Scene, k: int, spectrum: Tensor) -> float:
    """Return the rms error that is left of pipette `k`'s tip before an unknown background, um.

    As `limits.cramer_rao`, which knows the background; it is the bound there were clutter Gaussian.
    Arguments and errors as those of `detectability`.
    """
    expected = render(scene)[0].double().clamp(min=DARKEST)
    names = PARAMETERS[scene.modality]
    slopes = torch.cat([slope(scene, k, name) for name in names]).double()
    slopes = slopes / expected
    whitened = torch.stack([_whitened(one, scene, expected, spectrum) for one in slopes])
    information = slopes.flatten(1) @ whitened.flatten(1).T
    return float(marginal(information).trace().sqrt() * scene.pixel_size_um[0])


def _all_round(power: Tensor) -> Tensor:
    """Return the mean over all directions of a power at (P, P) frequencies."""
    steps = torch.fft.fftfreq(len(power), d=1 / len(power), dtype=torch.float64)
    ring = torch.hypot(steps[:, None], steps).round().long().flatten()
    counts = torch.bincount(ring)
    rings = power.new_zeros(len(counts)).scatter_add(0, ring, power.flatten()) / counts
    rings[:_SLOWEST] = rings[_SLOWEST]
    return rings[ring].view(power.shape)


def _whitened(field: Tensor, scene: Scene, expected: Tensor, spectrum: Tensor) -> Tensor:
    """Return (noise + clutter)^-1 of a field (H, W), by conjugate gradients.

    Noise is uncorrelated and of a variance of its own in every pixel, clutter a convolution: either
    is easily inverted, their sum is not. The preconditioner has the same noise everywhere. Of the
    textbook's letters `residue`, `turned`, `direction` and `covered` are r, z, p and A p.
    """
    s = scene.sensor
    noise = charge_variance(expected[None], s)[0] / (s.photons[0] * expected).square()
    noise = noise.clamp(max=_BLANK)
    half = spectrum[:, : PERIOD // 2 + 1]
    rough = 1 / (noise.median() + half)

    def filtered(map_: Tensor, gain: Tensor) -> Tensor:
        frequencies = torch.fft.rfft2(map_, s=(PERIOD, PERIOD))
        whole = torch.fft.irfft2(gain * frequencies, s=(PERIOD, PERIOD))
        return whole[: field.shape[0], : field.shape[1]]

    answer, residue = torch.zeros_like(field), field
    direction = turned = filtered(residue, rough)
    first = strength = (residue * turned).sum()
    for _ in range(_MOST):
        if strength <= _ENOUGH**2 * first:  # at once where a parameter changes nothing
            return answer
        covered = noise * direction + filtered(direction, half)
        step = strength / (direction * covered).sum()
        answer, residue = answer + step * direction, residue - step * covered
        turned = filtered(residue, rough)
        before, strength = strength, (residue * turned).sum()
        direction = turned + strength / before * direction
    raise RuntimeError(f'the whitening of a scene did not converge in {_MOST} steps')
