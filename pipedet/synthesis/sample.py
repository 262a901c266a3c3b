"""Draw scenes from a recipe: one session's rig and glass, then many scenes with them.

Every number comes from numpy generators seeded by the caller, so a scene is a function of its seed.
"""

from dataclasses import dataclass

import numpy as np
import torch

from pipedet.synthesis.backgrounds import SIZE, sample_background, sample_sensor
from pipedet.synthesis.recipes import REFERENCE_UM, Recipe
from pipedet.synthesis.scene import Optics, Pipettes, Scene, Sensor

MARGIN = 5.0  # a labelled tip is at least this far inside the frame, pixels
MIN_DISTANCE_UM = 10.0
_GLASS_KINDS = 9  # eight tips and an intruder


@dataclass
class Session:
    """What the scenes of one recording session share."""

    pixel_size_um: float
    glass: list[dict]  # parameters of each pipette of the rig
    background: dict  # statistics of the tissue
    sensor: dict
    optics: dict


def sample_session(rng: np.random.Generator, recipe: Recipe) -> Session:
    """Draw a rig, its pipettes and the statistics of its tissue."""
    pixel_size_um = rng.uniform(0.6, 0.9)
    unit = REFERENCE_UM / pixel_size_um
    glass = {
        'twophoton': _shadow_glass,
        'brightfield': _bath_glass,
        'diffraction': _clear_glass,
    }[recipe.modality]
    return Session(
        pixel_size_um=pixel_size_um,
        glass=[glass(rng, unit) for _ in range(_GLASS_KINDS)],
        background=dict(
            cells=rng.uniform(0, 45) * (rng.random() < 0.85),
            cell_um=rng.uniform(5, 13),
            cell_gain=rng.uniform(0.1, 0.9),
            specks=rng.uniform(0, 25),
            vessels=rng.uniform(0, 2),
            texture=rng.uniform(0.02, 0.12),
            uneven=rng.uniform(0.15, 0.8),
            plume=rng.uniform(0.3, 1.6) * (rng.random() < 0.6),
            **(_felt(rng) if recipe.neuropil else {}),  # what others draw next must not move
        ),
        sensor=sample_sensor(rng, recipe),
        optics=_optics(rng, recipe),
    )


def _felt(rng: np.random.Generator) -> dict:
    """How bright the fibres of a session's label are, and how thick beside the meshes."""
    return dict(felt=rng.uniform(0.05, 0.7), fibre=rng.uniform(0.1, 0.5))


def sample_scene(rng: np.random.Generator, session: Session, recipe: Recipe, count: int) -> Scene:
    """Draw one scene (a batch of 1): `count` tips in the frame, then perhaps an intruder."""
    tips, angles = place_tips(rng, count, MIN_DISTANCE_UM / session.pixel_size_um)
    if rng.random() < recipe.intruder:
        tip, angle = _place_intruder(rng)
        tips, angles = np.vstack([tips, tip]), np.append(angles, angle)
    pipettes = _pipettes(rng, session, recipe, tips, angles)
    focus = tips[:count].mean(axis=0) if count else rng.uniform(60, 196, 2)
    background = sample_background(rng, session.background, session.pixel_size_um, focus, recipe)
    return Scene(
        modality=recipe.modality,
        pipettes=pipettes,
        **background,
        relief=_relief(rng, recipe),
        optics=Optics(**_singles(session.optics)),
        sensor=_sensor(rng, session, recipe),
        pixel_size_um=torch.tensor([session.pixel_size_um], dtype=torch.float32),
    )


def place_tips(
    rng: np.random.Generator, count: int, min_distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 2) tips and (count,) shaft angles that no other shaft covers.

    Half the scenes converge on a target, as a rig does before patching; the others are anywhere.
    """
    converge = rng.random() < 0.5
    centre, start = rng.uniform(70, SIZE - 70, 2), rng.uniform(0, 2 * np.pi)
    tips, angles = np.empty((0, 2)), np.empty(0)
    attempts = 0
    while len(tips) < count:
        attempts += 1
        if converge and attempts < 40:
            angle = start + len(tips) * 2 * np.pi / count + rng.normal(0, 0.3)
            away = np.array([np.cos(angle), np.sin(angle)])
            tip = centre + rng.uniform(6, 60) * away + rng.normal(0, 4, 2)
            angle += rng.normal(0, 0.2)
        else:
            angle, tip = rng.uniform(0, 2 * np.pi), rng.uniform(MARGIN, SIZE - 1 - MARGIN, 2)
        if not (MARGIN <= tip.min() and tip.max() <= SIZE - 1 - MARGIN):
            continue
        apart = len(tips) == 0 or np.linalg.norm(tips - tip, axis=1).min() >= min_distance
        # A crowded field may have no free place left: after 400 tries a covered tip is let in.
        if apart and (attempts > 400 or not _covered(tip, angle, tips, angles)):
            tips, angles = np.vstack([tips, tip]), np.append(angles, angle)
    return tips, angles


def _covered(tip, angle, tips, angles) -> bool:
    """Whether a new shaft covers an old tip, or an old shaft the new tip."""
    behind = np.vstack([tip - tips, tips - tip])
    axes = np.append(angles, np.full(len(tips), angle))
    along = behind[:, 0] * np.cos(axes) + behind[:, 1] * np.sin(axes)
    across = np.abs(behind[:, 1] * np.cos(axes) - behind[:, 0] * np.sin(axes))
    return bool(((along > 0) & (across < 0.25 * along + 3)).any())


def _place_intruder(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return a tip outside the frame whose shaft crosses it.

    A slanted one may come back over a corner: then it is labelled as any other, one more than the
    recipe counts. Frozen scenes have such tips, so that it stays.
    """
    middle = (SIZE - 1) / 2
    angle = rng.uniform(0, 2 * np.pi)
    away = np.array([np.cos(angle), np.sin(angle)])
    to_border = middle / np.abs(away).max()  # from the centre to the border along the shaft
    tip = middle - (to_border + rng.uniform(6, 70)) * away
    return tip + rng.uniform(-60, 60) * np.array([-away[1], away[0]]), angle


def _shadow_glass(rng: np.random.Generator, unit: float) -> dict:
    """One pipette under two photons: measured wedge 12 px wide at 30 px, 24 at 60, 70 at 140."""
    kind = rng.choice(['bare', 'dot', 'streak', 'line'], p=[0.08, 0.3, 0.37, 0.25])
    length = dict(bare=0.0, dot=1.5, streak=rng.uniform(5, 12), line=rng.uniform(12, 25))[str(kind)]
    dye = rng.random() < 0.2
    return dict(
        z_um=rng.normal(0, 2.0),
        taper=rng.uniform(0.22, 0.5),
        flare=rng.uniform(250, 700) * unit,
        depth=rng.uniform(0.7, 1.0) if not dye else rng.uniform(0.0, 0.5),
        onset=rng.uniform(17, 45) * unit,
        edge=rng.uniform(1.8, 4.5) * unit,
        blur=rng.uniform(0.8, 1.8) * unit,
        mark=0.0 if kind == 'bare' else rng.uniform(0.2, 0.8),
        mark_length=length * unit,
        mark_width=rng.uniform(0.8, 1.6) * unit,
        cone=rng.uniform(0.3, 1.5) if dye else 0.0,
        cone_length=rng.uniform(20, 120) * unit,
        lumen_at=0.0,
        pale=0.0,
        **_NO_WALLS,
    )


def _bath_glass(rng: np.random.Generator, unit: float) -> dict:
    """One pipette in a bath under brightfield."""
    return dict(
        z_um=rng.uniform(-12, 12),
        taper=rng.uniform(0.25, 0.5),
        flare=rng.uniform(300, 1500) * unit,
        depth=rng.uniform(0.6, 0.95),
        onset=rng.uniform(8, 25) * unit,
        edge=rng.uniform(0.5, 2.5) * unit,
        blur=rng.uniform(0.7, 1.0) * unit,
        mark=rng.uniform(0.1, 0.7),
        mark_length=0.0,
        mark_width=1.0,
        cone=rng.uniform(0.5, 2.5),
        cone_length=rng.uniform(60, 300) * unit,
        lumen_at=rng.uniform(0, 50) * unit * (rng.random() < 0.7),
        pale=rng.uniform(0.0, 2.5) * unit,  # per um below the focus
        **_NO_WALLS,
    )


def _clear_glass(rng: np.random.Generator, unit: float) -> dict:
    """One pipette, as glass; nothing of it is drawn but what its optics do."""
    unseen = ('onset', 'edge', 'blur', 'mark', 'mark_length', 'mark_width')
    return dict(
        z_um=rng.uniform(-12, 12),
        taper=rng.uniform(0.12, 0.5),
        flare=rng.uniform(300, 1500) * unit,
        depth=rng.uniform(0.6, 1.0),  # stray light takes the rest of the contrast
        mouth=np.exp(rng.uniform(*np.log((0.15, 1.5)))),  # the finest is hardly seen in focus
        wall=rng.uniform(0.4, 0.85),
        tilt=np.radians(rng.uniform(5, 50)),
        **dict.fromkeys((*unseen, 'cone', 'cone_length', 'lumen_at', 'pale'), 0.0),
    )


_NO_WALLS = dict(mouth=0.0, wall=0.0, tilt=0.0)  # of a pipette that is drawn

# How much each parameter of a session's glass varies from scene to scene, as a factor.
_SPREAD = dict(taper=0.08, depth=0.08, onset=0.15, edge=0.15, mark=0.25, cone=0.25, mark_length=0.2)


def _pipettes(rng, session: Session, recipe: Recipe, tips, angles) -> Pipettes:
    """Give each tip one of the session's pipettes, with the day's variations."""
    n = len(tips)
    glass = [session.glass[i] for i in rng.permutation(_GLASS_KINDS)[:n]]
    values = {key: np.array([g[key] for g in glass]) for key in session.glass[0]}
    for key, spread in _SPREAD.items():
        values[key] = values[key] * np.exp(rng.normal(0, spread, n))
    contrast = np.exp(rng.uniform(*np.log(recipe.contrast), n))
    values['z_um'] = values['z_um'] + rng.normal(0, 1.5, n)
    defocus = np.abs(values['z_um'])
    values['blur'] = values['blur'] * np.sqrt(1 + (defocus / 6) ** 2)
    values['pale'] = values['pale'] * np.maximum(-values['z_um'], 0)
    # Out of focus the mark spreads, and what it gains in width it loses in height.
    widening = 1.0 if recipe.transmitted else np.sqrt(1 + (defocus / 3) ** 2)
    values['mark'] = values['mark'] * contrast / widening
    values['mark_width'] = values['mark_width'] * widening
    values['depth'] = np.minimum(values['depth'] * np.minimum(contrast, 1.1), 0.95)
    values['cone'] = values['cone'] * contrast
    faded = rng.random(n) < 0.25
    values['fade'] = faded * rng.uniform(0.3, 0.9, n)
    values['fade_at'], values['fade_length'] = rng.uniform(5, 60, n), rng.uniform(10, 30, n)
    values['presence'] = np.ones(n)
    speed_px = rng.exponential(15.0, n) / session.pixel_size_um  # typical approach 10-20 um/s
    heading = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    values['velocity'] = -speed_px[:, None] * heading
    values['tremor'] = np.stack(
        [*rng.normal(0, 0.5, (2, n)), rng.uniform(0.5, 8, n), rng.uniform(0, 6, n)], axis=-1
    )
    values.update(tip=tips, angle=angles)
    tensors = {k: torch.from_numpy(np.asarray(v, np.float32))[None] for k, v in values.items()}
    return Pipettes(**tensors)


def _relief(rng: np.random.Generator, recipe: Recipe) -> torch.Tensor:
    """The prisms' shear, half of it either way, for recipes that have one."""
    values = np.zeros(3)
    if recipe.relief:
        angle, shear = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.8)
        values[:] = rng.uniform(0.6, 3.0), shear * np.cos(angle), shear * np.sin(angle)
    return torch.from_numpy(values.astype(np.float32))[None]


def _sensor(rng: np.random.Generator, session: Session, recipe: Recipe) -> Sensor:
    """The session's detector; the photon budget drifts by a tenth from scene to scene."""
    values = dict(session.sensor)
    drifted = values['photons'] * np.exp(rng.normal(0, 0.1))
    values['photons'] = np.clip(drifted, *recipe.photons)
    return Sensor(**_singles(values))


def _optics(rng: np.random.Generator, recipe: Recipe) -> dict:
    """A session's objective, condenser and light, from blue to the infrared of slice rigs."""
    if recipe.modality != 'diffraction':
        return dict(wavelength_um=0.0, aperture=0.0, condenser=0.0, index=0.0)
    # Interference contrast is used with an open condenser, a bath with a closed one, too.
    stop = (0.2, 0.8) if recipe.relief else (0.01, 0.4)
    return dict(
        wavelength_um=rng.uniform(0.45, 0.9),
        aperture=rng.uniform(0.25, 0.9),
        condenser=np.exp(rng.uniform(*np.log(stop))),
        index=rng.uniform(0.11, 0.15),
    )


def _singles(values: dict) -> dict[str, torch.Tensor]:
    return {k: torch.tensor([v], dtype=torch.float32) for k, v in values.items()}
