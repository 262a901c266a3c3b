"""Transmitted light, from the optics: what hollow glass does to the phase of light.

A pipette rises from its tip, so that each of its cross-sections has a defocus of its own: below the
focus the very tip is a clear thread, where the shaft crosses the focal plane it has a waist, and
beyond fringes spread. All this follows from one thin, inclined phase object and a Fresnel
propagation (Goodman 2017, Introduction to Fourier Optics, ch. 4), which is taken apart: across the
shaft every cross-section is propagated by its own height, along it by the tip's, since further back
nothing changes fast along the shaft. Differential interference contrast shows the difference of two
such fields, a shear apart, with a bias between them (Preza et al. 1999, J. Opt. Soc. Am. A 16,
2185).

Light comes from below and the objective looks from above. Two conventions: where the shaft is tens
of micrometres thick it is no thin object any more, and is as dark as one would be; glass before
tissue multiplies its light, where interference would add their phases first.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipedet.synthesis.scene import Optics, Pipettes, exp, logistic

# Cross-sections, pixels behind the tip: close ones as far as the tip's own diffraction goes, then
# some as far as the frame.
_AHEAD, _NEAR = -32.0, 64.0
_FINE, _COARSE = 0.6, 3.0
_ACROSS, _OVERSAMPLED = 384, 2  # samples of a cross-section; times as many where walls are steep
_TIP_UM = 24.0  # from the axis to the end of the tip's cross-section
_USED_PX, _KEPT_PX, _SOFT_PX = 28.0, 46.0, 3.0  # windows of what is done along the shaft
_BLUNT_UM = 0.15  # softness of the glass's end
_TISSUE = 0.8  # radians that light is delayed by in unit thickness of `Scene.relief`
_WATER = 1.33  # refractive index of what the light goes through out of focus
_PIXEL = 12**-0.5  # standard deviation of a pixel's own width
_THIN_UM = 1e-3  # radius of the thinnest glass: padding has none
_ALMOST = 1 - 1e-5  # of a radius: at the radius itself a chord's slope is infinite


def diffraction(
    image: Tensor,
    pipette: Pipettes,
    along: Tensor,
    across: Tensor,
    optics: Optics,
    relief: Tensor,
    pixel_size_um: Tensor,
) -> Tensor:
    """Draw a pipette over `image` (B, H, W) as a microscope that looks from above shows it.

    Args:
        image: expected brightness.
        pipette: one a scene, fields (B, 1).
        along: of each pixel, its distance behind the tip, pixels, as the image.
        across: its distance off the axis.
        optics: of the microscope, fields (B,).
        relief: (B, 3), the scene's.
        pixel_size_um: (B,).
    """
    farthest = along.detach().max().item()
    light = transmitted(pipette, optics, relief, pixel_size_um, farthest)
    near = (along - _AHEAD) / _FINE
    far = (_NEAR - _AHEAD) / _FINE + (along - _NEAR) / _COARSE
    row = torch.where(along < _NEAR, near, far)
    p, um = pipette.wide(), pixel_size_um[:, None, None]
    column = (across * um / _sections(p, along, um).room + 1) * (_ACROSS / 2)
    # Outside of the cross-sections, as ahead of the tip, light passes.
    inside = (row > 0) & (column > 0) & (column < _ACROSS - 1)
    change = torch.where(inside, _look_up(light, row, column) - 1, 0.0)
    return image * (1 + p.presence * p.depth * change).clamp(min=0.02)


def transmitted(
    pipette: Pipettes,
    optics: Optics,
    relief: Tensor,
    pixel_size_um: Tensor,
    farthest: float = _NEAR,
) -> Tensor:
    """Return the light that each cross-section of a pipette leaves, 1 being the bath's.

    Args:
        pipette: one a scene, fields (B, 1).
        optics: of the microscope, fields (B,).
        relief: (B, 3), strength and half of the shear (x, y), pixels; 0: no interference contrast.
        pixel_size_um: (B,).
        farthest: pixels behind the tip up to which cross-sections are asked for.

    Returns:
        (B, S, U): S cross-sections from `_AHEAD` of the tip on, of U samples each, its axis in
        sample U / 2.
    """
    p, lens, um = pipette.wide(), optics.wide(), pixel_size_um[:, None, None]
    close = torch.arange(_AHEAD, _NEAR, _FINE, device=um.device)
    distant = torch.arange(_NEAR, max(farthest, _NEAR) + 2 * _COARSE, _COARSE, device=um.device)
    place = torch.cat([close, distant])[:, None]
    sections = _sections(p, place, um)
    # Cycles per um, across the shaft and along it.
    across = torch.fft.fftfreq(_ACROSS, 2 / _ACROSS, device=um.device) / sections.room
    along = torch.fft.fftfreq(len(close), _FINE, device=um.device)[:, None] / um
    used, kept = (logistic((end - close[:, None]) / _SOFT_PX) for end in (_USED_PX, _KEPT_PX))

    def along_the_tip(values: Tensor, gain: Tensor) -> Tensor:
        # The transform is periodic, so that the shaft is faded out before it meets what is ahead.
        first, others = values.split((len(close), len(distant)), dim=1)
        first = used * _filtered(kept * first, gain, dim=1) + (1 - used) * first
        return torch.cat([first, others], dim=1)

    back, aside = _in_frame(relief[:, 1:], p.angle)

    def seen(side: int) -> Tensor:
        # What the objective shows of the glass that the shear moves here.
        there = place + side * back
        moved = _sections(p, there, um)
        end = logistic(there * um / _BLUNT_UM)
        spectrum = end * _low(torch.fft.fft(_passed(p, lens, moved, sections.room) - 1))
        spectrum = along_the_tip(spectrum, _defocus(lens, along, p.z_um))
        return torch.fft.ifft(spectrum * _defocus(lens, across, moved.height, side * aside * um))

    # Two fields only where there is a shear: they take the time of two.
    sheared = (relief[:, 0] > 0).any()
    field = _interference(seen(1), seen(-1), relief[:, :1, None]) if sheared else seen(0)
    light = field.real * (field.real + 2) + field.imag.square()  # |1 + field|^2 - 1
    # A condenser lights from all sides within its aperture, which smears what is out of focus;
    # what the objective does not take does not count.
    slant = 0.5 * torch.minimum(lens.condenser, lens.aperture) / _WATER
    light = _filtered(light, _blur(across, slant * sections.height, um), dim=2)
    return along_the_tip(light, _blur(along, slant * p.z_um, um)) + 1


@dataclass
class _Sections:
    """Cross-sections of a shaft, um: outer radius, height, and how far each is computed."""

    radius: Tensor
    height: Tensor
    room: Tensor


def _sections(pipette: Pipettes, along: Tensor, pixel_size_um: Tensor) -> _Sections:
    """Return the cross-sections at pixels behind the tip, all (B, ., .)."""
    behind = along.clamp(min=0)
    radius = pipette.mouth + pixel_size_um * pipette.half_width(behind)
    height = pipette.z_um + pixel_size_um * behind * pipette.tilt.tan()
    # Light that the glass bends goes aside the further the higher it is.
    return _Sections(radius, height, room=_TIP_UM + 1.5 * radius + 0.3 * height.abs())


def _passed(pipette: Pipettes, optics: Optics, sections: _Sections, room: Tensor) -> Tensor:
    """Return the field behind the glass (B, S, U), U oversampled: delayed by what it passes.

    Glass so steep that even these samples do not show its slope is dark.
    """
    half = _ACROSS * _OVERSAMPLED // 2
    step = room / half
    ends = step * (torch.arange(half + 2, device=step.device) - 0.5)  # of one side and the axis

    def chord(r: Tensor) -> Tensor:
        # The mean over a sample, by its antiderivative: an edge then moves with the radius, where
        # the chord at the sample's middle would jump.
        r = r.clamp(min=_THIN_UM)
        share = (ends / r).clamp(-_ALMOST, _ALMOST)
        area = r.square() * (share * (1 - share.square()).sqrt() + share.asin())
        return area.diff() / step

    # Upright light passes more of an inclined wall.
    glass = chord(sections.radius) - chord(pipette.wall * sections.radius)
    phase = 2 * math.pi / optics.wavelength_um * optics.index * glass / pipette.tilt.cos()
    slope = torch.gradient(phase, dim=2)[0].abs() / math.pi  # 1: of the highest frequency
    side = torch.polar(logistic((0.9 - slope) / 0.05), phase)
    return torch.cat([side[..., 1:].flip(-1), side[..., :-1]], dim=-1)


def _low(spectrum: Tensor) -> Tensor:
    """Return the (B, S, `_ACROSS`) lowest frequencies of an oversampled spectrum."""
    half = _ACROSS // 2
    return torch.cat([spectrum[..., :half], spectrum[..., -half:]], dim=-1) / _OVERSAMPLED


def _defocus(
    optics: Optics, frequency: Tensor, height: Tensor, moved_um: Tensor | float = 0.0
) -> Tensor:
    """Return what the objective makes of frequencies (cycles per um) `height` um above its focus.

    A field goes as exp(ikz) and is traced back, down to the focal plane: hence the sign. The edge
    of the aperture is a little soft, for rings around everything are not seen in practice. What is
    shown is taken from `moved_um` further on.
    """
    phase = math.pi * optics.wavelength_um / _WATER * height * frequency.square()
    phase = phase + 2 * math.pi * moved_um * frequency
    share = (frequency * optics.wavelength_um / optics.aperture).square()
    passes = exp(-share.square().square())
    return torch.polar(passes.expand_as(phase), phase)


def _in_frame(shear: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far a shear (B, 2) goes back along shafts at angles (B, 1, 1), and across them."""
    x, y = shear[..., None, None].unbind(dim=1)
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _interference(ahead: Tensor, behind: Tensor, strength: Tensor) -> Tensor:
    """Return the difference of two sheared fields, scaled so that the bath's would be 1.

    The fields and their difference are all given less the bath's. The bias between them gives glass
    the contrast that `Scene.relief` says of tissue; half a turn, that of none, leaves their mean.
    """
    half_bias = torch.atan2(torch.full_like(strength, _TISSUE), strength)
    turn = torch.polar(torch.ones_like(half_bias), half_bias)
    return (ahead * turn - behind * turn.conj()) / (2j * half_bias.sin())


def _blur(frequency: Tensor, smear_um: Tensor, pixel_size_um: Tensor) -> Tensor:
    """Return what Gaussian smear and a pixel's width leave of frequencies."""
    variance = smear_um.square() + (_PIXEL * pixel_size_um).square()
    return exp(-2 * variance * (math.pi * frequency).square())


def _filtered(values: Tensor, gain: Tensor, dim: int) -> Tensor:
    if values.is_complex():
        return torch.fft.ifft(torch.fft.fft(values, dim=dim) * gain, dim=dim)
    size = values.shape[dim]
    gain = gain.narrow(dim, 0, size // 2 + 1)  # the others are the same, mirrored
    return torch.fft.irfft(torch.fft.rfft(values, dim=dim) * gain, n=size, dim=dim)


def _look_up(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return a table (B, S, U) between its entries at rows and columns (B, H, W), linearly.

    Unlike `grid_sample` it has a forward derivative, which the Cramer-Rao bound asks for.
    """
    rows, columns = table.shape[1:]
    row, column = row.clamp(0, rows - 1.001), column.clamp(0, columns - 1.001)
    top, left = row.detach().floor(), column.detach().floor()
    down, right = row - top, column - left
    at = (top * columns + left).long().flatten(1)
    flat = table.flatten(1)

    def between(offset: int) -> Tensor:
        first, second = (flat.gather(1, at + offset + n).view(row.shape) for n in (0, 1))
        return first * (1 - right) + second * right

    return between(0) * (1 - down) + between(columns) * down
