"""How well a tip can be told from what else is bright or dark, and located before it, at best.

Noise is half of what hides a tip: cells, vessels, dye and texture are the other. Here they are one
random field of which an observer knows the power spectrum and nothing else, and the observer is the
best linear one, Hotelling's (Barrett and Myers 2004, Foundations of Image Science, ch. 13). Images
are taken as logarithms, in which a shaft adds to any background what it takes from it. A network
that knows a cell for a cell is not linear and may do better; one that has to guess a pipette's
direction, shape and strength, all of which this observer is told, will do worse.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from pipedet.synthesis.limits import NUISANCES, marginal, slope
from pipedet.synthesis.render import render
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import charge_variance

_PERIOD = 384  # px, of the grid of frequencies: a frame of 256 and room between its repetitions
_DARKEST = 1e-3  # brightness; nothing has no logarithm
_BLANK = 4.0  # variance of noise from which a pixel says nothing of the logarithm, whatever more
_ENOUGH, _MOST = 5e-3, 300  # share of the residue at which the solver stops; steps it may take


def background_spectrum(backgrounds: Iterable[Tensor]) -> Tensor:
    """Return the mean power of the logarithm of backgrounds, at frequencies of `_PERIOD` px.

    Args:
        backgrounds: expected brightness without pipettes, each (H, W).

    Returns:
        (_PERIOD, _PERIOD), the same in every direction; its mean is the field's variance.
    """
    powers = []
    for brightness in backgrounds:
        field = brightness.double().clamp(min=_DARKEST).log()
        rows, columns = (
            torch.hann_window(side, periodic=False, dtype=torch.float64) for side in field.shape
        )
        window = rows[:, None] * columns
        field = window * (field - (field * window).sum() / window.sum())
        power = torch.fft.fft2(field, s=(_PERIOD, _PERIOD)).abs().square()
        powers.append(power / window.square().sum())
    return _all_round(torch.stack(powers).mean(dim=0))


def detectability(scene: Scene, k: int, spectrum: Tensor) -> float:
    """Return d' of pipette `k`: in how many standard deviations an image says that it is there.

    Args:
        scene: a batch of one.
        k: which pipette.
        spectrum: of the backgrounds, from `background_spectrum`.
    """
    both = scene, scene.without(k)
    with_it, without = (render(s)[0].double().clamp(min=_DARKEST) for s in both)
    change = (with_it / without).log()[None]
    return float((change * _whitened(change, scene, with_it, spectrum)).sum().sqrt())


def cramer_rao_in_clutter(scene: Scene, k: int, spectrum: Tensor) -> float:
    """Return the least rms error of pipette `k`'s tip before a background that is not known, um.

    As `limits.cramer_rao`, which knows the background; arguments as those of `detectability`.
    """
    expected = render(scene)[0].double().clamp(min=_DARKEST)
    slopes = torch.cat([slope(scene, k, name) for name in ('x', 'y', *NUISANCES)]).double()
    slopes = slopes / expected
    information = slopes.flatten(1) @ _whitened(slopes, scene, expected, spectrum).flatten(1).T
    return float(marginal(information).trace().sqrt() * scene.pixel_size_um[0])


def _all_round(power: Tensor) -> Tensor:
    """Return the mean over all directions of a power at (P, P) frequencies."""
    steps = torch.fft.fftfreq(len(power), d=1 / len(power), dtype=torch.float64)
    ring = torch.hypot(steps[:, None], steps).round().long().flatten()
    counts = torch.bincount(ring)
    rings = power.new_zeros(len(counts)).scatter_add(0, ring, power.flatten()) / counts
    rings[0] = rings[1]  # a window takes the mean out, and an observer does not know it
    return rings[ring].view(power.shape)


def _whitened(fields: Tensor, scene: Scene, expected: Tensor, spectrum: Tensor) -> Tensor:
    """Return (noise + clutter)^-1 of fields (R, H, W), by conjugate gradients.

    Noise is uncorrelated and of a variance of its own in every pixel, clutter a convolution: either
    is easily inverted, their sum is not. The preconditioner has the same noise everywhere.
    """
    s = scene.sensor
    noise = charge_variance(expected[None], s)[0] / (s.photons[0] * expected).square()
    noise = noise.clamp(max=_BLANK)
    half = spectrum[:, : _PERIOD // 2 + 1]
    rough = 1 / (noise.median() + half)

    def filtered(maps: Tensor, gain: Tensor) -> Tensor:
        frequencies = torch.fft.rfft2(maps, s=(_PERIOD, _PERIOD))
        whole = torch.fft.irfft2(gain * frequencies, s=(_PERIOD, _PERIOD))
        return whole[..., : maps.shape[-2], : maps.shape[-1]]

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(1, 2), keepdim=True)

    answer, residue = torch.zeros_like(fields), fields.clone()
    direction = turned = filtered(residue, rough)
    strength = inner(residue, turned)
    wanted = _ENOUGH**2 * strength
    for _ in range(_MOST):
        covered = noise * direction + filtered(direction, half)
        # A parameter that changes nothing has a field of zeros, and nothing to solve.
        step = strength / inner(direction, covered).clamp(min=1e-300)
        answer, residue = answer + step * direction, residue - step * covered
        turned = filtered(residue, rough)
        before, strength = strength, inner(residue, turned)
        if (strength <= wanted).all():
            return answer
        direction = turned + strength / before.clamp(min=1e-300) * direction
    raise RuntimeError(f'the whitening of a scene did not converge in {_MOST} steps')
