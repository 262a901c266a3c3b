"""How well a tip could be located at best: the Cramer-Rao bound of its position.

A pixel's photons have the mean that the renderer gives and the variance of shot noise, the
photomultiplier's excess and read noise. That is all the bound knows: line jitter and the digitiser
cost information that it does not count, background and the other pipettes are taken as known. What
is not known of a pipette beside its tip (the rest of `PARAMETERS`) is marginalised.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pipedet.synthesis.render import render
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import charge_variance

# Direction, shape, contrast and sharpness. A pipette without a mark or a filling has none to guess.
_DRAWN = 'x', 'y', 'angle', 'taper', 'depth', 'blur', 'mark', 'cone'
PARAMETERS = dict(
    twophoton=_DRAWN,
    brightfield=_DRAWN,
    diffraction=('x', 'y', 'angle', 'taper', 'depth', 'z_um', 'tilt', 'mouth', 'wall'),
)


def cramer_rao(scene: Scene, size: tuple[int, int] = (256, 256)) -> Tensor:
    """Return the least rms error of an unbiased estimate of each tip, (B, K) um.

    Root of the trace of the position's covariance; infinite where an image says nothing of a tip,
    as of padding.
    """
    covariances = [tip_covariance(scene, k, size) for k in range(scene.pipettes.tip.shape[1])]
    if not covariances:
        return scene.pipettes.tip.new_zeros(scene.pipettes.tip.shape[:2])
    trace = torch.stack(covariances, dim=1).diagonal(dim1=2, dim2=3).sum(dim=2)
    return trace.sqrt() * scene.pixel_size_um[:, None]


def tip_covariance(scene: Scene, k: int, size: tuple[int, int] = (256, 256)) -> Tensor:
    """Return the least covariance of tip `k`, (B, 2, 2) px^2, infinite where it is unseen."""
    with torch.no_grad():
        expected = render(scene, size)
        slopes = [slope(scene, k, name, size) for name in PARAMETERS[scene.modality]]
    photons = scene.sensor.photons[:, None, None]
    variance = charge_variance(expected.clamp(min=0), scene.sensor) + 1e-6
    weighted = torch.stack([s * photons / variance.sqrt() for s in slopes], dim=1)
    weighted = weighted.flatten(2).double()
    information = weighted @ weighted.transpose(1, 2)  # (B, P, P)
    return torch.stack([marginal(one) for one in information])


def slope(scene: Scene, k: int, name: str, size: tuple[int, int] = (256, 256)) -> Tensor:
    """Return the derivative of the brightness by one parameter of pipette `k`, (B, H, W).

    Args:
        scene: the scenes.
        k: which pipette.
        name: 'x' or 'y' of the tip, or another of `PARAMETERS`.
        size: of the frame, pixels.
    """
    field = 'tip' if name in 'xy' else name
    value = getattr(scene.pipettes, field)
    direction = torch.zeros_like(value)
    place = (slice(None), k, 'xy'.index(name)) if field == 'tip' else (slice(None), k)
    direction[place] = 1
    with forward_ad.dual_level():
        pipettes = replace(scene.pipettes, **{field: forward_ad.make_dual(value, direction)})
        image = render(replace(scene, pipettes=pipettes), size)
        tangent = forward_ad.unpack_dual(image).tangent
    return torch.zeros_like(image) if tangent is None else tangent


def marginal(information: Tensor) -> Tensor:
    """Return the (2, 2) block of the inverse of (P, P) information that belongs to the position.

    Parameters that change nothing are left out; the others are brought to one scale first, for
    pixels, radians and shares are of very different sizes.
    """
    strength = information.diagonal()
    used = torch.nonzero(strength > 1e-9).flatten()
    if not {0, 1} <= set(used.tolist()):
        return information.new_full((2, 2), torch.inf)
    scale = strength[used].rsqrt()
    scaled = information[used][:, used] * scale[:, None] * scale
    inverse = torch.linalg.pinv(scaled, hermitian=True, rtol=1e-12)
    return (inverse * scale[:, None] * scale)[:2, :2]
