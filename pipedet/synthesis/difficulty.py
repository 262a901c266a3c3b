"""How hard a tip is to see: its contrast-to-noise ratio, from the expected image alone."""

import torch
from torch import Tensor

from pipedet.synthesis.render import render_at
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import detector_blur, noise_std

RADIUS = 8


def contrast_to_noise(scene: Scene) -> Tensor:
    """Return (B, K): rms change within 8 px when the pipette is removed, over the rms noise there.

    Both are taken after the detector's blur, before any line jitter and before the digitiser clips:
    a tip in a saturated patch has the CNR that it would have under a lower gain.
    """
    tips = scene.pipettes.tip
    reach = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32, device=tips.device)
    ratios = []
    for k in range(tips.shape[1]):
        xs, ys = (tips[:, k, axis].round()[:, None] + reach for axis in (0, 1))
        with_it = render_at(scene, ys, xs)
        change = with_it - render_at(scene.without(k), ys, xs)
        change = detector_blur(change, scene.sensor.spread)
        noise = noise_std(with_it, scene.sensor)
        disc = (reach[:, None].square() + reach.square() <= RADIUS**2).float()
        ratios.append(
            ((change.square() * disc).sum((1, 2)) / (noise.square() * disc).sum((1, 2))).sqrt()
        )
    return torch.stack(ratios, dim=1) if ratios else tips.new_zeros(tips.shape[:2])
