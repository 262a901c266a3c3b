"""Ex vivo, brightfield, from the optics: what hollow glass does to the phase of light.

A pipette rises from its tip, so that each of its cross-sections has a defocus of its own: below the
focus the very tip is a clear thread, where the shaft crosses the focal plane it has a waist, and
beyond fringes spread. All this follows from one thin, inclined phase object and a Fresnel
propagation (Goodman 2017, Introduction to Fourier Optics, ch. 4), which is taken apart: across the
shaft every cross-section is propagated by its own height, along it by the tip's, since further back
nothing changes fast along the shaft.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pipedet.synthesis.scene import Optics, Pipettes, logistic

# Places of the cross-sections behind the tip, pixels: close ones as far as the tip's own
# diffraction goes, then some until past the longest diagonal of a frame.
_AHEAD, _NEAR, _FAR = -32.0, 64.0, 370.0
_FINE, _COARSE = 0.6, 3.0
_WATER = 1.33  # refractive index of what the light goes through out of focus
_ACROSS = 256  # samples of a cross-section
_ROOM_UM = 24.0  # from the axis to the end of the tip's cross-section
_TIP_ENDS, _SHAFT_ENDS = 28.0, 52.0  # pixels: where what is propagated along it is no longer used;
_SOFTLY = 3.0  # and where the close cross-sections fade, for a transform takes them for a ring
_BLUNT_UM = 0.15  # softness of the glass's end
_UNBENT = 1 / (1 + math.exp(-10))  # what the soft edge of the aperture leaves of straight light
_LITTLE = 1e-6  # um^2, of which a root has a slope


def diffraction(
    image: Tensor,
    pipette: Pipettes,
    along: Tensor,
    across: Tensor,
    optics: Optics,
    pixel_size_um: Tensor,
) -> Tensor:
    """Draw a pipette over `image` (B, H, W) as a microscope that looks from above shows it.

    Args:
        image: expected brightness.
        pipette: one a scene, fields (B, 1).
        along: of each pixel, its distance behind the tip, pixels, as the image.
        across: its distance off the axis.
        optics: of the microscope, fields (B,).
        pixel_size_um: (B,).
    """
    light, room = transmitted(pipette, optics, pixel_size_um)
    near = (along - _AHEAD) / _FINE
    far = (_NEAR - _AHEAD) / _FINE + (along - _NEAR) / _COARSE
    row = torch.where(along < _NEAR, near, far)
    p, um = pipette.wide(), pixel_size_um[:, None, None]
    # Cross-sections grow with the shaft; outside of them, as ahead of the tip, light passes.
    half = _look_up(room[..., None], row, torch.zeros_like(row))
    column = (across * um / half + 1) * (_ACROSS / 2)
    inside = (row > 0) & (column > 0) & (column < _ACROSS - 1)
    change = torch.where(inside, _look_up(light, row, column) - 1, 0.0)
    return image * (1 + p.presence * p.depth * change).clamp(min=0.02)


def transmitted(pipette: Pipettes, optics: Optics, pixel_size_um: Tensor) -> tuple[Tensor, Tensor]:
    """Return the light that each cross-section of a pipette leaves, 1 being the bath's.

    Returns:
        Light (B, S, U) on S cross-sections of U samples each, and the distance from the axis to
        the end of each cross-section (B, S), um.
    """
    p, lens, um = pipette.wide(), optics.wide(), pixel_size_um[:, None, None]
    device = pixel_size_um.device
    near = torch.arange(_AHEAD, _NEAR, _FINE, device=device)
    place = torch.cat([near, torch.arange(_NEAR, _FAR, _COARSE, device=device)])[:, None]
    behind = place.clamp(min=0)
    radius = p.mouth + um * behind * (behind * (0.5 * p.taper / p.flare) + 0.5 * p.taper)
    height = p.z_um + um * behind * p.tilt.tan()
    room = _ROOM_UM + 1.5 * radius + 0.3 * height.abs()
    step = room * (2 / _ACROSS)
    off_axis = step * (torch.arange(_ACROSS, device=device) - _ACROSS / 2)
    frequency = torch.fft.fftfreq(_ACROSS, device=device) / step

    field = _passed(p, lens, radius, off_axis)
    field = (field - 1) * logistic(place * um / _BLUNT_UM)
    turns = torch.fft.fftfreq(len(near), _FINE, device=device)[:, None] / um

    def along_tip(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        close, distant = values[:, : len(near)], values[:, len(near) :]
        used, there = (
            logistic((end - near[:, None]) / _SOFTLY) for end in (_TIP_ENDS, _SHAFT_ENDS)
        )
        close = used * change(there * close) + (1 - used) * close
        return torch.cat([close, distant], dim=1)

    field = along_tip(field, partial(_propagated, lens, turns, p.z_um, 1))
    field = _propagated(lens, frequency, height, 2, field)
    # A condenser lights from all sides within its aperture: what is out of focus by h is smeared
    # over some h times that, and a pixel takes the mean of its area.
    pixel, slant = 0.35 * um, 0.5 * lens.condenser / _WATER
    light = (1 + field).abs().square() - 1
    light = _smeared(torch.hypot(slant * height, pixel) * frequency, 2, light)
    blur = torch.hypot(slant * p.z_um, pixel)
    return along_tip(light, partial(_smeared, blur * turns, 1)) + 1, room[..., 0]


def _passed(pipette: Pipettes, optics: Optics, radius: Tensor, off_axis: Tensor) -> Tensor:
    """Return the field behind the glass: delayed by it, and gone where it is thrown too far aside.

    Glass that bends light out of the objective's aperture is dark; where samples are too far apart
    to show a bend, it counts as such. Light from above meets more of an inclined wall.
    """

    def chord(r: Tensor) -> Tensor:
        return 2 * (r.square() - off_axis.square()).clamp(min=_LITTLE).sqrt()

    wave, step = 2 * math.pi / optics.wavelength_um, off_axis[..., 1:2] - off_axis[..., :1]
    glass = (chord(radius) - chord(pipette.wall * radius)) / pipette.tilt.cos()
    phase = wave * optics.index * glass
    slope = torch.gradient(phase, dim=2)[0] / step
    steepest = torch.minimum(wave * optics.aperture, 0.9 * math.pi / step)
    kept = logistic((steepest - slope.abs()) / (0.1 * steepest)) / _UNBENT
    return torch.polar(kept, phase)


def _propagated(
    optics: Optics, frequency: Tensor, height: Tensor, dim: int, field: Tensor
) -> Tensor:
    """Return a field in the focal plane, `height` below it, as the aperture lets it pass."""
    phase = math.pi * optics.wavelength_um / _WATER * height * frequency.square()
    share = frequency * optics.wavelength_um / optics.aperture
    passes = torch.exp(-share.pow(8).clamp(max=30))
    spectrum = torch.fft.fft(field, dim=dim) * torch.polar(passes.expand_as(phase), phase)
    return torch.fft.ifft(spectrum, dim=dim)


def _smeared(cycles: Tensor, dim: int, light: Tensor) -> Tensor:
    """Return light under a Gaussian; `cycles` are its standard deviations times frequencies."""
    gain = torch.exp(-2 * (math.pi * cycles).square().clamp(max=15))
    return torch.fft.ifft(torch.fft.fft(light, dim=dim) * gain, dim=dim).real


def _look_up(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return a table (B, S, U) between its entries at rows and columns (B, H, W), linearly.

    Unlike `grid_sample` it has a forward derivative, which the Cramer-Rao bound asks for.
    """
    rows, columns = table.shape[1:]
    row = row.clamp(0, rows - 1.001)
    column = column.clamp(0, max(columns - 1.001, 0))
    top, left = row.detach().floor(), column.detach().floor()
    down, right = row - top, column - left
    at = (top * columns + left).long().flatten(1)
    flat = table.flatten(1)

    def entry(offset: int) -> Tensor:
        return flat.gather(1, (at + offset).clamp(max=flat.shape[1] - 1)).view(row.shape)

    if columns == 1:
        return entry(0) * (1 - down) + entry(1) * down
    upper = entry(0) * (1 - right) + entry(1) * right
    lower = entry(columns) * (1 - right) + entry(columns + 1) * right
    return upper * (1 - down) + lower * down
