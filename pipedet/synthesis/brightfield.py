"""Ex vivo, brightfield: one glass pipette in a clear bath, dark walls, bright lumen, a halo.

Glass refracts the light out of the aperture (dark walls), the lumen in the middle of the thin part
focuses it (a bright line), and the edges diffract it (fringes that spread with defocus). Below the
focus the very tip takes no light: it is a pale thread ahead of the dark.
"""

import torch
from torch import Tensor

from pipedet.synthesis.scene import Pipettes, exp, logistic


def brightfield(image: Tensor, pipette: Pipettes, along: Tensor, across: Tensor) -> Tensor:
    """Draw a pipette over `image` (B, H, W); `along` and `across` are (B, H, W) pixels."""
    p = pipette.wide()
    behind = 0.5 * (along + (along.square() + p.blur.square()).sqrt())
    off_axis = (across.square() + 0.1 * p.blur.square()).sqrt()
    half_width = p.half_width(behind) + 0.3
    outside = off_axis - half_width
    softness = p.blur + p.edge * (1 - exp(-behind / p.onset))
    wall = logistic(-outside / softness)
    beyond = (behind - p.pale).relu()
    # Without a pale thread the dark begins at the tip itself.
    taken = torch.where(p.pale > 0, logistic((behind - p.pale) / 1.5), 1.0)
    dark = p.depth * (1 - exp(-(beyond + 2 * p.blur) / p.onset)) * taken
    lumen = exp(-0.5 * (across / (0.14 * half_width + 0.5 * p.blur)).square())
    lumen = lumen * logistic((p.cone_length - behind) / 4) * logistic((behind - p.lumen_at) / 3)
    ridge = exp(-0.5 * (across / p.blur).square())
    thread = (ridge - 0.5 * exp(-0.125 * (across / p.blur).square())) * (1 - taken)
    # Fringes parallel to the edges: their period and their reach grow with defocus.
    period = 2.0 + 1.6 * p.blur
    decay = exp(-outside.relu() / (period * (0.8 + 0.02 * behind)))
    fringe = torch.cos(2 * torch.pi * outside / period) * decay
    glow = exp(-outside.relu() / (4 + 0.25 * behind))
    halo = (1 - wall) * (0.5 * fringe + 0.5 * glow)
    ahead = logistic(along / (0.7 * p.blur))
    change = ahead * (p.cone * lumen + p.mark * halo + (0.3 + p.mark) * thread - dark * wall)
    return image * (1 + p.presence * change).clamp(min=0.02)
