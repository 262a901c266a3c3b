"""Pipette-C: fourteen ways in which a microscope spoils an image, in five severities each.

After ImageNet-C (Hendrycks and Dietterich 2019). All are applied to the linear intensity that the
microscope saved, before any normalisation, and leave the tips where they were; only the shifts of
scan lines take a tip along with its line. What is random in them is drawn from the generator given.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

_PEAK = 99.5  # percentile that stands for the brightest structure
_SHADOW_LOSS = 0.6
_PUPIL = 0.35  # radius of the pupil, cycles a pixel: an unaberrated spot 1.5 px wide


@dataclass
class Frame:
    """An image to spoil.

    Attributes:
        image: (H, W) float64 in [0, 1] of the file's range.
        tips: (N, 2) pixels.
        directions: (N, 2) unit vectors from each tip back along the shaft.
    """

    image: np.ndarray
    tips: np.ndarray
    directions: np.ndarray

    @property
    def peak(self) -> float:
        """Intensity of the brightest structures."""
        return max(float(np.percentile(self.image, _PEAK)), 1e-6)


def corrupt(name: str, severity: int, frame: Frame, rng: np.random.Generator) -> Frame:
    """Return the frame spoiled by corruption `name` of severity 1 to 5."""
    if name not in CORRUPTIONS or not 1 <= severity <= 5:
        raise ValueError(
            f'no corruption {name!r} of severity {severity}: there are {", ".join(CORRUPTIONS)}, '
            '1 to 5'
        )
    apply, levels = CORRUPTIONS[name]
    spoiled = apply(frame, levels[severity - 1], rng)
    return spoiled if isinstance(spoiled, Frame) else Frame(spoiled, frame.tips, frame.directions)


def _shot_noise(frame: Frame, photons: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(frame.image / frame.peak * photons) / photons * frame.peak


def _read_noise(frame: Frame, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return frame.image + sigma * frame.peak * rng.standard_normal(frame.image.shape)


def _defocus(frame: Frame, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return gaussian_filter(frame.image, sigma, mode='nearest')


def _aberration(frame: Frame, waves: float, rng: np.random.Generator) -> np.ndarray:
    """Astigmatism or coma of so many waves rms, in any direction, through the pupil."""
    height, width = frame.image.shape
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing='ij')
    radius, angle = np.hypot(fx, fy) / _PUPIL, np.arctan2(fy, fx) + rng.uniform(0, 2 * np.pi)
    astigmatism = np.sqrt(6) * radius**2 * np.cos(2 * angle)  # Noll's norm: rms 1
    coma = np.sqrt(8) * (3 * radius**3 - 2 * radius) * np.cos(angle)
    phase = 2 * np.pi * waves * (astigmatism if rng.random() < 0.5 else coma)
    pupil = (radius <= 1) * np.exp(1j * phase)
    spot = np.abs(np.fft.ifft2(pupil)) ** 2
    return np.fft.ifft2(np.fft.fft2(frame.image) * np.fft.fft2(spot / spot.sum())).real


def _line_motion(frame: Frame, sigma: float, rng: np.random.Generator) -> Frame:
    """Lines move with the animal: smoothly from one to the next, each tip with its own."""
    shifts = gaussian_filter1d(rng.standard_normal(len(frame.image)), 4)
    shifts *= sigma / shifts.std()
    own = np.interp(frame.tips[:, 1], np.arange(len(shifts)), shifts)
    moved = frame.tips + np.stack([own, np.zeros_like(own)], axis=-1)
    return Frame(_shift_lines(frame.image, shifts), moved, frame.directions)


def _scan_phase(frame: Frame, pixels: float, rng: np.random.Generator) -> np.ndarray:
    return _shift_lines(frame.image, pixels * (np.arange(len(frame.image)) % 2))


def _photobleach(frame: Frame, gain: float, rng: np.random.Generator) -> np.ndarray:
    """The dye fades; background and noise stay."""
    smooth = gaussian_filter(frame.image, 2)
    background = np.percentile(smooth, 5)
    return background + gain * (smooth - background) + (frame.image - smooth)


def _vignette(frame: Frame, corner: float, rng: np.random.Generator) -> np.ndarray:
    y, x = (np.linspace(-1, 1, n) for n in frame.image.shape)
    return frame.image * (1 - (1 - corner) * (x**2 + y[:, None] ** 2) / 2)


def _saturation(frame: Frame, gain: float, rng: np.random.Generator) -> np.ndarray:
    return np.minimum(gain * frame.image, 1.25 * frame.peak)


def _bits(frame: Frame, bits: float, rng: np.random.Generator) -> np.ndarray:
    step = 1.25 * frame.peak / (2**bits - 1)
    return np.round(frame.image / step) * step


def _vessel(frame: Frame, width: float, rng: np.random.Generator) -> np.ndarray:
    """A vessel crosses every shaft behind its tip."""
    image = frame.image.copy()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for tip, direction in zip(frame.tips, frame.directions, strict=True):
        place = tip + direction * (rng.uniform(10, 25) + width / 2)
        angle = np.arctan2(direction[1], direction[0]) + rng.uniform(-0.5, 0.5)
        off = (x - place[0]) * np.cos(angle) + (y - place[1]) * np.sin(angle)
        image *= 1 - _SHADOW_LOSS * np.exp(-0.5 * (off / (width / 2.355)) ** 2)
    return image


def _dye_spill(frame: Frame, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Dye leaks out just ahead of every tip."""
    image = frame.image.copy()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for tip, direction in zip(frame.tips, frame.directions, strict=True):
        place = tip - direction * radius * rng.uniform(0.3, 0.8)
        squared = (x - place[0]) ** 2 + (y - place[1]) ** 2
        image += frame.peak * np.exp(-0.5 * squared / (radius / 1.5) ** 2)
    return image


def _cells(frame: Frame, count: float, rng: np.random.Generator) -> np.ndarray:
    """Bright somata of 8 to 16 pixels, anywhere."""
    image = frame.image.copy()
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for _ in range(int(count)):
        place, radius = rng.uniform(0, image.shape[::-1]), rng.uniform(4, 8)
        apart = np.hypot(x - place[0], y - place[1])
        image += rng.uniform(0.2, 0.8) * frame.peak / (1 + np.exp((apart - radius) / 0.8))
    return image


def _dead_lines(frame: Frame, share: float, rng: np.random.Generator) -> np.ndarray:
    image = frame.image.copy()
    image[rng.permutation(len(image))[: round(share * len(image))]] = 0
    return image


def _shift_lines(image: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move line y to the right by `shifts[y]` pixels."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    return map_coordinates(image, [y, x - shifts[:, None]], order=1, mode='nearest')


CORRUPTIONS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    'shot noise': (_shot_noise, (100, 30, 10, 5, 2)),  # photons at the peak
    'read noise': (_read_noise, (0.02, 0.04, 0.08, 0.12, 0.18)),  # rms, share of the peak
    'defocus': (_defocus, (1, 2, 3, 4, 6)),  # sigma, px
    'aberration': (_aberration, (0.05, 0.1, 0.15, 0.2, 0.3)),  # waves rms
    'line motion': (_line_motion, (0.5, 1, 2, 4, 8)),  # px rms
    'scan phase': (_scan_phase, (1, 2, 3, 4, 6)),  # px between odd and even lines
    'photobleach': (_photobleach, (0.8, 0.6, 0.4, 0.25, 0.15)),  # gain of the signal
    'vignette': (_vignette, (0.8, 0.6, 0.45, 0.3, 0.2)),  # gain in the corners
    'saturation': (_saturation, (1.5, 2, 3, 5, 8)),  # gain before clipping
    'bits': (_bits, (8, 7, 6, 5, 4)),
    'vessel': (_vessel, (4, 8, 12, 16, 24)),  # width, px
    'dye spill': (_dye_spill, (4, 8, 12, 20, 30)),  # radius, px
    'cells': (_cells, (5, 10, 20, 40, 80)),
    'dead lines': (_dead_lines, (0.01, 0.02, 0.04, 0.08, 0.16)),
}
