"""Where a pipette of known looks fits an image best, searched over all places and directions.

A matched filter before coloured noise (Turin 1960): image and pipette are whitened by the spectrum
of the session's backgrounds and of the noise, and how likely the pipette is at a place is their
correlation there, less half the pipette's energy in the frame. It is the observer of `clutter` who
has to search; how many it finds in images, and how many in Gaussian fields, says how far from such
their backgrounds are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipedet.synthesis.clutter import DARKEST, PERIOD
from pipedet.synthesis.render import render_at
from pipedet.synthesis.sample import MARGIN
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import charge_variance

_BEYOND = 192  # px round the frame to which a shaft is drawn: elsewhere more of it would be seen
_BLUR = 1.5  # px, standard deviation: of few photons the logarithm is wild
_LEFT = 0.05  # share of the noise that counts where the blur leaves none
_SLOWEST = 3.5  # cycles in a period; what is slower differs by more than a windowed spectrum knows
_TAPER = 40  # px, beyond the frame


def best_fit(scene: Scene, brightness: Tensor, spectrum: Tensor, turns: int = 36) -> Tensor:
    """Return where the tip of a pipette fits best, (x, y) px.

    Of the directions tried one is the pipette's own, and so is of the places, to a pixel.

    Args:
        scene: a batch of one with one pipette, which the observer knows but for where it is.
        brightness: an image (H, W) of it, square, in units of brightness.
        spectrum: of the backgrounds, from `clutter.background_spectrum`.
        turns: how many directions are tried.
    """
    side = len(brightness)
    noise = relative_noise(scene, side)
    image = _blur(brightness).clamp(min=DARKEST).log()
    image = _whiten(_taper(image - image.mean()), spectrum, noise)[:side, :side]
    looks = _whiten(_change(scene, side), spectrum, noise)

    reach = side + 2 * _BEYOND
    size = side + reach  # no place is another's repetition
    frequencies = torch.fft.rfft2(image, s=(size, size))
    tip = scene.pipettes.tip[0, 0]
    tried = torch.arange(int(MARGIN), side - int(MARGIN))
    # A pixel i of the looks comes to lie at i + move of the frame.
    across, down = (tried - round(float(at)) - _BEYOND for at in tip)
    best, place = -torch.inf, None
    for turn in range(turns):
        turned = _turned(looks, tip + _BEYOND, 2 * torch.pi * turn / turns)
        fit = torch.fft.irfft2(
            frequencies * torch.fft.rfft2(turned, s=(size, size)).conj(), s=(size, size)
        )
        likelihood = fit[(down % size)[:, None], across % size]
        likelihood = likelihood - _energy(turned, side, down, across) / 2
        highest = int(likelihood.argmax())
        if likelihood.flatten()[highest] > best:
            best = likelihood.flatten()[highest]
            y, x = divmod(highest, len(tried))
            # The pixel, and the fraction of one that the looks are drawn at.
            place = torch.stack([tried[x], tried[y]]) + tip - tip.round()
    return place


def relative_noise(scene: Scene, side: int) -> float:
    """Return the variance of the noise in the logarithm, its median over the frame."""
    axis = torch.arange(side, dtype=torch.float32)[None]
    expected = render_at(scene, axis, axis).clamp(min=DARKEST)
    variance = charge_variance(expected, scene.sensor)
    return float((variance / (scene.sensor.photons * expected).square()).median())


def _change(scene: Scene, side: int) -> Tensor:
    """Return what the pipette adds to the logarithm, in the frame and `_BEYOND`."""
    axis = torch.arange(-_BEYOND, side + _BEYOND, dtype=torch.float32)[None]
    with_it, without = (
        _blur(render_at(s, axis, axis)[0]).clamp(min=DARKEST) for s in (scene, scene.bare())
    )
    return (with_it / without).log()


def _blur(image: Tensor) -> Tensor:
    reach = round(4 * _BLUR)
    taps = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * _BLUR**2))
    taps = taps / taps.sum()
    padded = F.pad(image[None, None].float(), (reach,) * 4, mode='reflect')
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))[0, 0]


def _taper(image: Tensor) -> Tensor:
    """Let an image end in its mirror and fade to nothing, in a period of `PERIOD` px."""
    side = len(image)
    beyond = (PERIOD - side) // 2
    padded = F.pad(image[None, None], (beyond,) * 4, mode='reflect')[0, 0]
    steps = torch.arange(PERIOD) + 0.5
    edge = (torch.minimum(steps, PERIOD - steps) / min(_TAPER, beyond)).clamp(max=1)
    fade = torch.sin(torch.pi / 2 * edge).square()
    return torch.roll(padded * fade[:, None] * fade, (-beyond, -beyond), dims=(0, 1))


def _whiten(field: Tensor, spectrum: Tensor, noise: float) -> Tensor:
    """Return a blurred field (P, P) in which every frequency of the clutter is as strong."""
    side = len(field)
    rows = torch.fft.fftfreq(side)[:, None]
    columns = torch.fft.rfftfreq(side)
    rate = torch.hypot(rows, columns)
    rings = spectrum[0, : PERIOD // 2].float()  # the same in all directions
    ring = (rate * PERIOD).clamp(max=len(rings) - 1.001)
    below = ring.long()
    clutter = torch.lerp(rings[below], rings[below + 1], ring - below)
    power = (noise + clutter) * torch.exp(-(2 * torch.pi * _BLUR * rate).square())
    power = power + _LEFT * noise
    power = torch.where(rate * PERIOD < _SLOWEST, 100 * power, power)
    return torch.fft.irfft2(torch.fft.rfft2(field) / power.sqrt(), s=(side, side))


def _turned(field: Tensor, centre: Tensor, angle: float) -> Tensor:
    """Return a square field turned about a point (x, y)."""
    side = len(field)
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    turn = torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])])
    middle = (2 * centre + 1) / side - 1  # as grid_sample counts
    matrix = torch.cat([turn, (middle - turn @ middle)[:, None]], dim=1)
    grid = F.affine_grid(matrix[None], [1, 1, side, side], align_corners=False)
    return F.grid_sample(field[None, None], grid, align_corners=False)[0, 0]


def _energy(field: Tensor, side: int, down: Tensor, across: Tensor) -> Tensor:
    """Return what of a field's energy lies in the frame when it is moved so, (down, across)."""
    sums = F.pad(field.double().square().cumsum(0).cumsum(1), (1, 0, 1, 0))
    top, bottom, left, right = (
        (start - move).clamp(0, len(field)) for move in (down, across) for start in (0, side)
    )

    def before(y: Tensor, x: Tensor) -> Tensor:
        return sums[y[:, None], x]

    inside = before(bottom, right) - before(top, right) - before(bottom, left) + before(top, left)
    return inside.float()
