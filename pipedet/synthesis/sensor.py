"""Expected brightness -> the image a microscope would save, and the noise that comes with it.

Order of events: the scan lines jitter, photons arrive (Poisson), the photomultiplier gives each a
random pulse height, the electronics add read noise, the detector's bandwidth spreads neighbours
over three taps, and the digitiser clips and rounds.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipedet.synthesis.scene import Scene, Sensor

# Above this mean a Poisson draw is a normal one with its skewness put right (Cornish-Fisher); after
# the photomultiplier's own spread the two cannot be told apart, and it is seven times faster.
EXACT_BELOW = 10.0


def expose(
    scene: Scene, brightness: Tensor, generator: torch.Generator | None = None
) -> list[np.ndarray]:
    """Return one image per scene, (H, W) uint8 (8 bits used) or uint16 (more).

    Args:
        scene: for its sensor.
        brightness: expected brightness, (B, H, W).
        generator: on the device of `brightness`; None draws from torch's global one.
    """
    s = scene.sensor
    photons = _column(s.photons) * jitter_rows(brightness, s.jitter, generator).clamp(min=0)
    charge = draw_photons(photons, generator)
    spread = (_column(s.excess) * charge).sqrt() * _normal(charge, generator)
    read = _column(s.read_noise) * _normal(charge, generator)
    signal = detector_blur(charge + spread + read, s.spread) / _column(s.photons)
    full = 2.0 ** _column(s.bits) - 1
    grey = full * (_column(s.offset) + _column(s.gain) * signal)
    grey = torch.minimum(grey.round().clamp(min=0), full).cpu().numpy()
    return [
        image.astype(np.uint8 if bits <= 8 else np.uint16)
        for image, bits in zip(grey, s.bits.tolist(), strict=True)
    ]


def draw_photons(mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return Poisson counts of `mean`, exact below `EXACT_BELOW`."""
    z = _normal(mean, generator)
    counts = (mean + mean.sqrt() * z + (z.square() - 1) / 6).clamp(min=0)
    few = mean < EXACT_BELOW
    counts[few] = torch.poisson(mean[few], generator=generator)
    return counts


def jitter_rows(
    brightness: Tensor, rms: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Shift every scan line of (B, H, W) by its own random amount, at most one pixel."""
    noise = torch.randn(
        brightness.shape[:2], generator=generator, device=brightness.device, dtype=torch.float32
    )
    shift = (rms[:, None] * noise).clamp(-1, 1)[..., None]
    padded = F.pad(brightness, (1, 1), mode='replicate')
    neighbour = torch.where(shift > 0, padded[..., :-2], padded[..., 2:])
    return torch.lerp(brightness, neighbour, shift.abs())


def detector_blur(image: Tensor, spread: Tensor) -> Tensor:
    """Convolve (B, H, W) with [spread, 1 - 2 spread, spread] along both axes; `spread` is (B,)."""
    a = _column(spread)
    padded = F.pad(image, (1, 1, 1, 1), mode='replicate')
    rows = torch.lerp(padded[:, 1:-1], 0.5 * (padded[:, :-2] + padded[:, 2:]), 2 * a)
    return torch.lerp(rows[..., 1:-1], 0.5 * (rows[..., :-2] + rows[..., 2:]), 2 * a)


def noise_std(brightness: Tensor, sensor: Sensor) -> Tensor:
    """Return the standard deviation of the noise in units of brightness, (B, H, W).

    Shot noise with the photomultiplier's excess, read noise, the averaging of the detector blur and
    the rounding of the digitiser.
    """
    photons = _column(sensor.photons)
    variance = charge_variance(brightness, sensor)
    a = _column(sensor.spread)
    kept = ((1 - 2 * a).square() + 2 * a.square()).square()
    step = 1 / ((2.0 ** _column(sensor.bits) - 1) * _column(sensor.gain))
    return (kept * variance / photons.square() + step.square() / 12).sqrt()


def charge_variance(brightness: Tensor, sensor: Sensor) -> Tensor:
    """Return the variance of a pixel's charge before the detector's blur, (B, H, W) photons^2."""
    shot = (1 + _column(sensor.excess)) * _column(sensor.photons) * brightness
    return shot + _column(sensor.read_noise) ** 2


def _column(parameter: Tensor) -> Tensor:
    return parameter[:, None, None]


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=torch.float32)
