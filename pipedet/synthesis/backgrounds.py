"""Draw what a pipette is seen against: tissue, vessels, plume, texture; and the sensor."""

import numpy as np
import torch

from pipedet.synthesis.recipes import REFERENCE_UM, Recipe
from pipedet.synthesis.scene import Blobs, Neuropil, Waves

SIZE = 256
_THINNEST = 0.5  # sigma of a typical fibre, pixels: of thinner ones a frame shows a row of dots


def sample_sensor(rng: np.random.Generator, recipe: Recipe) -> dict:
    """Draw a session's detector settings; `photons` is the session's mean budget."""
    return dict(
        photons=rng.uniform(*recipe.photons),
        excess=0.0 if recipe.transmitted else rng.uniform(0.1, 0.5),
        read_noise=rng.uniform(0.5, 2.5),
        jitter=0.0 if recipe.transmitted else rng.uniform(0, 0.35),
        spread=rng.uniform(0.0, 0.25),
        offset=rng.uniform(0.005, 0.05),
        gain=rng.uniform(0.4, 0.65) if recipe.transmitted else rng.uniform(0.15, 0.45),
        bits=float(rng.choice([8, 12, 16], p=[0.5, 0.3, 0.2])),
    )


def sample_background(
    rng: np.random.Generator,
    stats: dict,
    pixel_size_um: float,
    focus: np.ndarray,
    recipe: Recipe,
) -> dict[str, Blobs | Waves | Neuropil]:
    """Draw the background fields of one scene; the plume lies round `focus`, (x, y) pixels."""
    if recipe.transmitted:
        bright = _slice(rng, stats, pixel_size_um) if recipe.relief else _bath(rng, stats)
        return dict(bright, neuropil=_no_neuropil())
    drawn = _labelled(rng, stats, pixel_size_um, focus)
    if not recipe.neuropil:
        return dict(drawn, neuropil=_no_neuropil())
    holes = _holes(rng, int(rng.poisson(2)), pixel_size_um)
    pieces = _pieces(rng, int(rng.poisson(rng.uniform(0, 40))), pixel_size_um)
    return dict(
        drawn,
        tissue=_join(drawn['tissue'], pieces),
        shadows=_join(drawn['shadows'], holes),
        neuropil=_neuropil(rng, stats, REFERENCE_UM / pixel_size_um),
    )


def _labelled(
    rng: np.random.Generator, stats: dict, pixel_size_um: float, focus: np.ndarray
) -> dict[str, Blobs | Waves]:
    # Tissue with a fluorescent label, as two photons see it.
    cells = int(rng.poisson(stats['cells']))
    return dict(
        illumination=_illumination(rng, stats['uneven']),
        tissue=_join(
            _cells(rng, cells, stats['cell_um'] / pixel_size_um, stats['cell_gain']),
            _specks(rng, int(rng.poisson(stats['specks']))),
        ),
        shadows=_vessels(rng, int(rng.poisson(stats['vessels'])), pixel_size_um),
        plume=_plume(rng, focus, stats['plume']),
        texture=_texture(rng, stats['texture'], (5, 80)),
    )


def _bath(rng: np.random.Generator, stats: dict) -> dict[str, Blobs | Waves]:
    # A bath is even, with a fine grain and a few out-of-focus specks of dirt.
    return dict(
        illumination=_illumination(rng, 0.15 * stats['uneven']),
        tissue=_specks(rng, int(rng.integers(0, 4))),
        shadows=_specks(rng, int(rng.poisson(0.2 * stats['specks']))),
        plume=_nothing(),
        texture=_texture(rng, 0.15 * stats['texture'], (2.5, 12)),
    )


def _slice(rng: np.random.Generator, stats: dict, pixel_size_um: float) -> dict[str, Blobs | Waves]:
    # Tissue is transparent: what the optics show is its relief.
    cells, pyramids = rng.poisson(0.5 * stats['cells'], 2)
    diameter, gain = 1.3 * stats['cell_um'] / pixel_size_um, 4 * stats['cell_gain']
    run = _spread(rng)
    return dict(
        illumination=_illumination(rng, 0.5 * stats['uneven']),
        tissue=_join(
            _cells(rng, int(cells), diameter, gain),
            _pyramids(rng, int(pyramids), diameter, gain),
        ),
        shadows=_vessels(rng, int(rng.poisson(0.3 * stats['vessels'])), pixel_size_um),
        plume=_nothing(),
        # A slope shows the short waves the most: of a few one would see each.
        texture=_waves(rng, 0.5 * stats['texture'], (4, 60), run, n=192),
    )


def _blobs(x, y, sigma_x, sigma_y, amplitude) -> Blobs:
    columns = np.broadcast_arrays(x, y, sigma_x, sigma_y, amplitude)
    return Blobs(*(torch.from_numpy(np.array(c, np.float32))[None] for c in columns))


def _nothing() -> Blobs:
    return _blobs(*np.zeros((2, 0)), *np.ones((2, 0)), np.zeros(0))


def _join(a: Blobs, b: Blobs) -> Blobs:
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return Blobs(*(torch.cat(pair, dim=1) for pair in pairs))


def _illumination(rng: np.random.Generator, uneven: float) -> Blobs:
    """A constant and a few broad patches of light and shade."""
    n = 7
    x, y = rng.uniform(-60, SIZE + 60, (2, n))
    sigma = rng.uniform(40, 140, n)
    amplitude = rng.normal(0, uneven, n)
    # A Gaussian much wider than any frame is the constant.
    return _blobs(
        np.append(x, 128), np.append(y, 128), np.append(sigma, 1e4), np.append(sigma, 1e4),
        np.append(amplitude, 1.0),
    )  # fmt: skip


def _cells(rng: np.random.Generator, n: int, diameter: float, gain: float) -> Blobs:
    """Somata and nuclei: three Gaussians each, some with a dark nucleus."""
    x, y = rng.uniform(-5, SIZE + 5, (2, n, 1))
    radius = 0.5 * diameter * np.exp(rng.normal(0, 0.2, (n, 1)))
    bright = gain * np.exp(rng.normal(0, 0.6, (n, 1)))
    focus = rng.uniform(0.8, 2.0, (n, 1))  # out of the plane: wider and fainter
    parts = np.arange(3)
    sigma = focus * radius * np.where(parts < 2, 0.7, 0.35)
    hollow = np.where(rng.random((n, 1)) < 0.4, -0.8, 0.3)
    amplitude = bright / focus**2 * np.where(parts < 2, 1.0, hollow)
    shift = 0.5 * radius * (parts < 2)
    dx, dy = rng.normal(0, 1, (2, n, 3)) * shift
    columns = np.broadcast_arrays(x + dx, y + dy, sigma, sigma, amplitude)
    return _blobs(*(np.ravel(c) for c in columns))


def _pyramids(rng: np.random.Generator, n: int, diameter: float, gain: float) -> Blobs:
    """Pyramidal cells, which taper like a pipette: somata that run out into dendrites.

    Apical dendrites of a slice point one way, the surface.
    """
    parts = 16
    thinner = rng.uniform(0.82, 0.93, (n, 1)) ** np.arange(parts)
    thickness = 0.35 * diameter * np.exp(rng.normal(0, 0.2, (n, 1))) * thinner
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.25, (n, 1))
    heading = heading + np.cumsum(rng.normal(0, 0.06, (n, parts)), axis=1)
    start = rng.uniform(-20, SIZE + 20, (2, n, 1))
    x, y = start + np.cumsum(thickness * np.stack([np.cos(heading), np.sin(heading)]), axis=2)
    focus = rng.uniform(1.0, 2.0, (n, 1))  # out of the plane: wider and fainter
    # Gaussians one sigma apart add up to 2.5 of one, wider ones to more: a line fades by 1 / focus.
    amplitude = gain / 2.5 / focus**2 * np.exp(rng.normal(0, 0.6, (n, 1))) * thinner
    columns = np.broadcast_arrays(x, y, focus * thickness, focus * thickness, amplitude)
    return _blobs(*(np.ravel(c) for c in columns))


def _specks(rng: np.random.Generator, n: int) -> Blobs:
    """Debris: dots of one to three pixels, as bright as a cell or brighter."""
    x, y = rng.uniform(0, SIZE, (2, n))
    sigma_x, sigma_y = rng.uniform(0.6, 1.8, (2, n))
    return _blobs(x, y, sigma_x, sigma_y, np.exp(rng.normal(-1.8, 0.7, n)))


def _pieces(rng: np.random.Generator, n: int, pixel_size_um: float) -> Blobs:
    """What the plane cuts out of cells and dendrites: bright, longish, bent, with sharp ends."""
    parts = 5
    main, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, np.pi)
    heading = main + rng.uniform(-spread, spread, (n, 1))
    heading = heading + np.cumsum(rng.normal(0, 0.35, (n, parts)), axis=1)
    sigma = np.exp(rng.uniform(np.log(0.6), np.log(2.5), (n, 1))) / pixel_size_um
    step = sigma * rng.uniform(0.3, 1.5, (n, 1))
    start = rng.uniform(-5, SIZE + 5, (2, n, 1))
    x, y = start + np.cumsum(step * np.stack([np.cos(heading), np.sin(heading)]), axis=2)
    amplitude = np.exp(rng.normal(-1.5, 0.9, (n, 1))) * rng.uniform(0.3, 1, (n, parts))
    columns = np.broadcast_arrays(x, y, sigma, sigma, amplitude)
    return _blobs(*(np.ravel(c) for c in columns))


def _vessels(rng: np.random.Generator, n: int, pixel_size_um: float) -> Blobs:
    """Vessel shadows: smooth random walks across the field, drawn as overlapping Gaussians."""
    pieces = []
    for _ in range(n):
        sigma = np.exp(rng.uniform(np.log(4.0), np.log(30.0))) / pixel_size_um / 2
        steps = max(8, int(400 / sigma))
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, steps))
        start = rng.uniform(0, SIZE, 2) - 200 * np.array([np.cos(heading[0]), np.sin(heading[0])])
        x, y = start[:, None] + np.cumsum(sigma * np.stack([np.cos(heading), np.sin(heading)]), 1)
        # Gaussians one sigma apart add up to 2.5 of one.
        pieces.append(_blobs(x, y, sigma, sigma, rng.uniform(0.05, 0.7) / 2.5))
    joined = _nothing()
    for piece in pieces:
        joined = _join(joined, piece)
    return joined


def _plume(rng: np.random.Generator, focus: np.ndarray, strength: float) -> Blobs:
    """Dye let out between the tips: 60 to 80 px wide, uneven."""
    n = int(rng.integers(2, 6)) if strength > 0 else 0
    x, y = focus[:, None] + rng.normal(0, 22, (2, n))
    sigma_x, sigma_y = rng.uniform(10, 34, (2, n))
    return _blobs(x, y, sigma_x, sigma_y, strength * rng.uniform(0.1, 0.7, n))


def _holes(rng: np.random.Generator, n: int, pixel_size_um: float) -> Blobs:
    """Vessels that cross the plane: round, dark."""
    x, y = rng.uniform(0, SIZE, (2, n))
    sigma_x, sigma_y = np.exp(rng.uniform(np.log(2.0), np.log(10.0), (2, n))) / pixel_size_um
    return _blobs(x, y, sigma_x, sigma_y, rng.uniform(0.2, 1.2, n))


def _neuropil(rng: np.random.Generator, stats: dict, unit: float) -> Neuropil:
    """A felt of fibres that is denser in some places; wavelengths are given at `REFERENCE_UM`."""
    finest = rng.uniform(6, 18) * unit
    spread = _spread(rng)
    web = _waves(rng, 1.0, (finest, rng.uniform(2, 6) * finest), spread)
    # A typical fibre is where the web goes through 0 with its rms slope; half of all are thinner.
    slope = (0.5 * web.amplitude.square() * (web.kx.square() + web.ky.square())).sum(1).sqrt()
    return Neuropil(
        web=web,
        grain=_waves(rng, rng.uniform(0.1, 0.6), (4 * unit, 16 * unit), np.pi),
        patches=_waves(rng, rng.uniform(0.5, 3), (60 * unit, 300 * unit), np.pi),
        strength=torch.tensor([stats['felt']], dtype=torch.float32),
        width=(_THINNEST * slope).clamp(min=stats['fibre']),
    )


def _no_neuropil() -> Neuropil:
    nothing = Waves(*torch.zeros(4, 1, 0))
    return Neuropil(nothing, nothing, nothing, strength=torch.zeros(1), width=torch.ones(1))


def _spread(rng: np.random.Generator) -> float:
    """Return how far, in radians, waves run from their main direction: fibres may run one way."""
    return np.pi if rng.random() < 0.5 else rng.uniform(0.3, 1.5)


def _texture(rng: np.random.Generator, rms: float, wavelengths: tuple[float, float]) -> Waves:
    """A random field: 48 waves, log-uniform in wavelength, of equal power."""
    return _waves(rng, rms, wavelengths, np.pi)


def _waves(
    rng: np.random.Generator,
    rms: float,
    wavelengths: tuple[float, float],
    spread: float,
    n: int = 48,
) -> Waves:
    """Draw n waves that run within `spread` of some direction; pi is any."""
    k = 2 * np.pi / np.exp(rng.uniform(*np.log(wavelengths), n))
    angle, phase = rng.uniform(0, 2 * np.pi, (2, n))
    if spread < np.pi:
        angle = rng.uniform(0, 2 * np.pi) + spread * (angle / np.pi - 1)
    amplitude = np.full(n, rms * np.sqrt(2 / n))  # a cosine has rms 1 / sqrt(2)
    columns = (k * np.cos(angle), k * np.sin(angle), phase, amplitude)
    return Waves(*(torch.from_numpy(np.asarray(c, np.float32))[None] for c in columns))
