"""How hard a tip is to see: its contrast-to-noise ratio, from the expected image alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipedet.synthesis.render import render_at
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import detector_blur, noise_std

RADIUS = 8


def contrast_to_noise(scene: Scene, light: Callable[..., Tensor] = render_at) -> Tensor:
    """Return (B, K): rms change within 8 px when the pipette is removed, over the rms noise there.

    Both are taken after the detector's blur, before any line jitter and before the digitiser clips:
    a tip in a saturated patch has the CNR that it would have under a lower gain.

    Args:
        scene: with its pipettes and detector.
        light: what gives the expected brightness, of a scene, rows and columns as `render_at`.
    """
    tips = scene.pipettes.tip
    ratios = []
    for k in range(tips.shape[1]):
        xs, ys, inside = neighbourhood(tips[:, k])
        with_it = light(scene, ys, xs)
        change = with_it - light(scene.without(k), ys, xs)
        change = detector_blur(change, scene.sensor.spread)
        noise = noise_std(with_it, scene.sensor)
        disc = inside.float()
        ratios.append(
            ((change.square() * disc).sum((1, 2)) / (noise.square() * disc).sum((1, 2))).sqrt()
        )
    return torch.stack(ratios, dim=1) if ratios else tips.new_zeros(tips.shape[:2])


def neighbourhood(tips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels round tips (B, 2): columns xs (B, n), rows ys (B, n), and (n, n) bool.

    The last says which of a square's pixels are within `RADIUS` of its middle.
    """
    reach = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32, device=tips.device)
    xs, ys = (tips[:, axis].round()[:, None] + reach for axis in (0, 1))
    return xs, ys, reach[:, None].square() + reach.square() <= RADIUS**2
