"""The parameters of a scene: what is in the field, before any photon is drawn.

A scene is nested dataclasses of float32 tensors whose first axis is the batch, so that scenes stack
into batches (`stack`), travel to a GPU (`to`), are moved in time (`at`) and differentiated. Lengths
are pixels, points are (x, y) with centres at integers, angles point from the tip back along the
shaft.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Pipettes:
    """K pipettes a scene; every field (B, K) unless noted. `presence` 0 marks padding."""

    tip: Tensor  # (B, K, 2)
    angle: Tensor  # radians, from the tip back along the shaft
    presence: Tensor  # 1: there, 0: padding or removed
    z_um: Tensor  # height of the tip above the focal plane
    taper: Tensor  # width of the wedge per pixel behind the tip
    flare: Tensor  # length over which the taper doubles
    depth: Tensor  # share of the light that the shaft takes, far behind the tip; diffraction: what
    #   stray light leaves of the contrast
    onset: Tensor  # length over which depth and edge softness build up
    edge: Tensor  # softness of the edges (logistic scale), far behind the tip
    blur: Tensor  # softness at the tip itself, grows with defocus
    fade: Tensor  # share of the shadow missing around `fade_at`
    fade_at: Tensor
    fade_length: Tensor
    mark: Tensor  # extra brightness of the dot or streak at the apex
    mark_length: Tensor
    mark_width: Tensor
    cone: Tensor  # brightness of a dye filling
    cone_length: Tensor
    lumen_at: Tensor  # brightfield: where the bright lumen begins, behind the tip
    pale: Tensor  # brightfield: length behind the tip that is clear and takes no light
    mouth: Tensor  # diffraction: outer radius at the tip, um
    wall: Tensor  # diffraction: inner radius over outer
    tilt: Tensor  # diffraction: radians that the shaft rises by
    velocity: Tensor  # (B, K, 2), pixels per second
    tremor: Tensor  # (B, K, 4): amplitudes x, y in pixels, frequency in Hz, phase

    def pick(self, k: int) -> 'Pipettes':
        """Return the k-th pipette of every scene; its fields are (B, 1)."""
        return Pipettes(*(getattr(self, field.name)[:, k : k + 1] for field in fields(self)))

    def wide(self) -> 'Pipettes':
        """Return a picked pipette whose fields broadcast against frames: (B, 1, 1)."""
        return Pipettes(*(getattr(self, field.name)[..., None] for field in fields(self)))

    def half_width(self, behind: Tensor) -> Tensor:
        """Return half the width of the glass at pixels behind the tip."""
        return behind * (behind * (0.5 * self.taper / self.flare) + 0.5 * self.taper)


@dataclass
class Blobs:
    """N axis-aligned Gaussians a scene, every field (B, N); amplitude 0 is padding."""

    x: Tensor
    y: Tensor
    sigma_x: Tensor
    sigma_y: Tensor
    amplitude: Tensor


@dataclass
class Waves:
    """N plane waves a scene, every field (B, N): texture without a scale of its own."""

    kx: Tensor  # radians per pixel
    ky: Tensor
    phase: Tensor
    amplitude: Tensor


@dataclass
class Neuropil:
    """The felt of fibres between cells: thin, of every direction, here dense and there absent."""

    web: Waves  # fibres run where this field is 0
    grain: Waves  # cut ends and spines
    patches: Waves  # where there is more of both
    strength: Tensor  # (B,), share of the brightness; 0: none
    width: Tensor  # (B,), of a fibre, in values of the web


@dataclass
class Optics:
    """Of a microscope in transmitted light; every field (B,), 0 where scenes have none."""

    wavelength_um: Tensor
    aperture: Tensor  # numerical, of the objective
    condenser: Tensor  # numerical aperture of the light
    index: Tensor  # refractive, of the glass above the bath's

    def wide(self) -> 'Optics':
        """Return the optics with fields that broadcast against frames: (B, 1, 1)."""
        return Optics(*(getattr(self, field.name)[:, None, None] for field in fields(self)))


@dataclass
class Sensor:
    """How photons become grey levels; every field (B,)."""

    photons: Tensor  # expected photons a pixel at unit brightness
    excess: Tensor  # variance of one photon's pulse height over its squared mean (PMT)
    read_noise: Tensor  # rms, photons
    jitter: Tensor  # rms shift of a scan line, pixels
    spread: Tensor  # outer taps of the separable 3-tap detector blur
    offset: Tensor  # grey level without light, share of full scale
    gain: Tensor  # grey level of unit brightness above the offset, share of full scale
    bits: Tensor  # bits used of the file's 8 or 16


@dataclass
class Scene:
    """A batch of scenes of one modality: 'twophoton', 'brightfield' or 'diffraction'."""

    modality: str
    pipettes: Pipettes
    illumination: Blobs  # slowly varying brightness, multiplies the tissue
    tissue: Blobs  # somata, nuclei, specks: bright
    shadows: Blobs  # vessels and what else takes light
    plume: Blobs  # dye in the bath
    texture: Waves
    neuropil: Neuropil
    relief: Tensor  # (B, 3), interference contrast: strength, then half of the shear, x, y; 0: none
    optics: Optics
    sensor: Sensor
    pixel_size_um: Tensor  # (B,)

    def at(self, seconds: float) -> 'Scene':
        """Return the same scenes at another time: the tips move, the background stays."""
        p = self.pipettes
        phase = p.tremor[..., 3:4]
        swing = torch.sin(2 * torch.pi * p.tremor[..., 2:3] * seconds + phase) - torch.sin(phase)
        tip = p.tip + p.velocity * seconds + p.tremor[..., :2] * swing
        return replace(self, pipettes=replace(p, tip=tip))

    def without(self, k: int) -> 'Scene':
        """Return the same scenes with pipette `k` taken out."""
        presence = self.pipettes.presence.clone()
        presence[:, k] = 0
        return replace(self, pipettes=replace(self.pipettes, presence=presence))

    def bare(self) -> 'Scene':
        """Return the same scenes with every pipette taken out."""
        nobody = torch.zeros_like(self.pipettes.presence)
        return replace(self, pipettes=replace(self.pipettes, presence=nobody))

    def to(self, device: torch.device | str) -> 'Scene':
        """Return the scenes with every tensor on `device`."""
        return _map(lambda t: t.to(device), [self])


def stack(scenes: Sequence[Scene]) -> Scene:
    """Join scenes of one modality along the batch, padding shorter lists with nothing."""

    def join(*parts: Tensor) -> Tensor:
        if parts[0].dim() == 1:
            return torch.cat(parts)
        longest = max(part.shape[1] for part in parts)
        return torch.cat(
            [F.pad(p, (0, 0) * (p.dim() - 2) + (0, longest - p.shape[1])) for p in parts]
        )

    if len({scene.modality for scene in scenes}) != 1:
        raise ValueError('stack joins scenes of one modality; render each modality by itself')
    return _keep_finite(_map(join, scenes))


def _keep_finite(scene: Scene) -> Scene:
    """Give padding the widths that divide safely; presence and amplitude 0 hide it."""
    for part in (scene.pipettes, scene.illumination, scene.tissue, scene.shadows, scene.plume):
        for name in (
            'sigma_x',
            'sigma_y',
            'flare',
            'onset',
            'fade_length',
            'blur',
            'mark_width',
            'cone_length',
        ):
            if hasattr(part, name):
                value = getattr(part, name)
                setattr(part, name, torch.where(value == 0, torch.ones_like(value), value))
    return scene


def _map(function: Callable, items: Sequence):
    first = items[0]
    if isinstance(first, Tensor):
        return function(*items)
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        return type(first)(*(_map(function, [getattr(i, name) for i in items]) for name in names))
    return first


def exp(x: Tensor) -> Tensor:
    """Return e^x for x <= 0, flat below e^-30: denormal results cost the CPU ten times as much."""
    return torch.exp(x.clamp(min=-30))


def logistic(x: Tensor) -> Tensor:
    """Return 1 / (1 + e^-x), three times faster on the CPU than `torch.sigmoid`."""
    return 1 / (1 + torch.exp(x.neg().clamp(-30, 30)))
