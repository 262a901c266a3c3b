"""What an enhancer does to the contrast-to-noise ratio of tips, by exposing scenes many times.

The ratio of a scene (`synthesis.difficulty`) is known from its parameters; that of an enhanced one
has to be measured: signal is what the pipette changes in the mean over many exposures, noise how
much one exposure differs from the next.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pipedet.models.preprocessor import percentiles, scale_between, to_unit
from pipedet.synthesis import LabelledScene, Scene, expose, render
from pipedet.synthesis.backgrounds import SIZE
from pipedet.synthesis.difficulty import RADIUS


@torch.no_grad()
def measure_tip_contrast(
    enhance: Callable[[Tensor], Tensor], drawn: LabelledScene, exposures: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the contrast-to-noise ratio of the labelled tips before and after, (N,) each.

    Args:
        enhance: (B, 1, H, W) in [0, 1] -> the same.
        drawn: a scene.
        exposures: with every pipette, and as many again without each; at least 2.
        seed: of their noise.
    """
    noise = torch.Generator().manual_seed(seed)
    shown = _expose(drawn.scene, exposures, noise)
    scale = _to_unit_as(shown)
    labels = drawn.labelled.nonzero()[:, 0].tolist()
    hidden = [_expose(drawn.scene.without(k), exposures, noise) for k in labels]
    before = [scale(images) for images in (shown, *hidden)]
    after = [enhance(images) for images in before]
    return tuple(
        np.array([
            _ratio(with_it, without, drawn.scene.pipettes.tip[0, k])
            for k, without in zip(labels, others, strict=True)
        ])
        for with_it, *others in (before, after)
    )  # fmt: skip


def _to_unit_as(shown: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map to [0, 1] that suits the exposures (B, 1, H, W) taken together.

    Images without a pipette must go through the same one: their own percentiles would change the
    grey of every pixel, and count as its contrast.
    """
    low, high = percentiles(shown.flatten()[None, None, None])
    return lambda images: to_unit(scale_between(images, low, high))


def _expose(scene: Scene, exposures: int, noise: torch.Generator) -> Tensor:
    brightness = render(scene, (SIZE, SIZE))
    images = [expose(scene, brightness, noise)[0] for _ in range(exposures)]
    return torch.from_numpy(np.stack(images).astype(np.float32))[:, None]


def _ratio(shown: Tensor, hidden: Tensor, tip: Tensor) -> float:
    """Signal over noise, rms, within `RADIUS` of a tip."""
    steps = torch.arange(SIZE, dtype=torch.float32)
    disc = (steps - tip[0]).square() + (steps[:, None] - tip[1]).square() <= RADIUS**2
    a, b = shown[:, 0, disc], hidden[:, 0, disc]  # (exposures, pixels)
    noise, other = a.var(dim=0).mean(), b.var(dim=0).mean()
    # The means of a few exposures differ by chance as well.
    signal = (a.mean(dim=0) - b.mean(dim=0)).square().mean() - (noise + other) / len(a)
    return float((signal.clamp(min=0) / noise.clamp(min=1e-12)).sqrt())
