"""Scene parameters -> expected brightness of every pixel, differentiable in every tip position.

Everything round or wavy is a sum of separable terms and so one matrix product a scene; only the
pipettes are evaluated pixel by pixel. The grid is given by its axes, so that a small window
around a tip costs what a small window costs.
"""

from functools import partial

import torch
from torch import Tensor

from pipedet.synthesis.brightfield import brightfield
from pipedet.synthesis.diffraction import diffraction
from pipedet.synthesis.scene import Blobs, Neuropil, Pipettes, Scene, Waves, exp, logistic


def render(scene: Scene, size: tuple[int, int] = (256, 256)) -> Tensor:
    """Return the expected brightness, (B, H, W), 1 being the typical background."""
    device = scene.pixel_size_um.device
    ys = torch.arange(size[0], device=device, dtype=torch.float32)
    xs = torch.arange(size[1], device=device, dtype=torch.float32)
    batch = len(scene.pixel_size_um)
    return render_at(scene, ys.expand(batch, -1), xs.expand(batch, -1))


def render_at(scene: Scene, ys: Tensor, xs: Tensor) -> Tensor:
    """Return the expected brightness on the grid of axes `ys` (B, H) and `xs` (B, W)."""
    return draw_pipettes(_background(scene, ys, xs), scene, ys, xs)


def draw_pipettes(image: Tensor, scene: Scene, ys: Tensor, xs: Tensor) -> Tensor:
    """Return a background's expected brightness (B, H, W) with the scene's pipettes before it."""
    draw = {
        'twophoton': twophoton,
        'brightfield': brightfield,
        'diffraction': partial(
            diffraction,
            optics=scene.optics,
            relief=scene.relief,
            pixel_size_um=scene.pixel_size_um,
        ),
    }[scene.modality]
    # One pipette at a time: a frame stays in the processor's cache, all K of them would not.
    for k in range(scene.pipettes.tip.shape[1]):
        pipette = scene.pipettes.pick(k)
        image = draw(image, pipette, *along_and_across(pipette, ys, xs))
    return image


def along_and_across(pipette: Pipettes, ys: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pixel's distance behind the tip and off the axis, both (B, H, W)."""
    dx = (xs - pipette.tip[:, 0, :1])[:, None, :]
    dy = (ys - pipette.tip[:, 0, 1:])[..., None]
    cos, sin = pipette.angle.cos()[..., None], pipette.angle.sin()[..., None]
    return dx * cos + dy * sin, dy * cos - dx * sin


def twophoton(image: Tensor, pipette: Pipettes, along: Tensor, across: Tensor) -> Tensor:
    """Shadow the fluorescent volume with a shaft and light its mark and its dye filling.

    The shaft above the focal plane takes light from what lies below: a wedge whose depth and edge
    softness build up with the distance behind the tip.
    """
    p = pipette.wide()
    # A smooth ramp: the tip of a micropipette is blunt on the scale of the blur.
    behind = 0.5 * (along + (along.square() + p.blur.square()).sqrt())
    off_axis = (across.square() + 0.25 * p.blur.square()).sqrt()
    build_up = 1 - exp(-behind / p.onset)
    half_width = p.half_width(behind)
    softness = build_up * p.edge + p.blur
    shadow = (p.presence * p.depth) * build_up * logistic((half_width - off_axis) / softness)
    if (p.fade > 0).any():
        gap = ((behind - p.fade_at) / p.fade_length).square()
        shadow = shadow * (1 - p.fade / (1 + gap).square())
    image = image * (1 - shadow)

    if (p.mark > 0).any():
        beyond = ((along - 0.5 * p.mark_length).abs() - 0.5 * p.mark_length).relu()
        streak = exp((across.square() + beyond.square()) * (-0.5 / p.mark_width.square()))
        image = image * (1 + (p.presence * p.mark) * streak)
    if (p.cone > 0).any():
        lumen = logistic((0.3 * half_width - off_axis) / (0.5 * softness))
        reach = (1 - exp(behind * (-0.5 / p.blur))) * exp(-behind / p.cone_length)
        image = image + (p.presence * p.cone) * reach * lumen
    return image


def _background(scene: Scene, ys: Tensor, xs: Tensor) -> Tensor:
    illumination = _sum_blobs(scene.illumination, ys, xs)
    texture = 1 + _sum_waves(scene.texture, ys, xs)
    # 1 - exp(-x) flattens the top of overlapping blobs: a soma is a disc, not a pile of Gaussians.
    tissue = 1 - exp(-_sum_blobs(scene.tissue, ys, xs))
    light = exp(-_sum_blobs(scene.shadows, ys, xs).relu())
    plume = _sum_blobs(scene.plume, ys, xs)
    lit = illumination.clamp(min=0.1) * (1 + 2 * tissue) * light
    if (scene.neuropil.strength > 0).any():
        lit = lit * (1 + _felt(scene.neuropil, ys, xs))
    image = (lit + plume.relu()) * texture.clamp(min=0.3)
    transparent = scene.relief[:, 0] > 0
    if transparent.any():
        shaded = illumination.clamp(min=0.1) * light * _relief(scene, ys, xs)
        image = torch.where(transparent[:, None, None], shaded, image)
    return image


def _felt(neuropil: Neuropil, ys: Tensor, xs: Tensor) -> Tensor:
    """Return how much brighter neuropil makes the tissue.

    The zeros of a random field are a net of thin, curved lines.
    """
    strength, width = neuropil.strength[:, None, None], neuropil.width[:, None, None]
    fibres = exp(-0.5 * (_sum_waves(neuropil.web, ys, xs) / width).square())
    grain = _sum_waves(neuropil.grain, ys, xs)
    return strength * logistic(_sum_waves(neuropil.patches, ys, xs)) * (fibres + grain).relu()


def _relief(scene: Scene, ys: Tensor, xs: Tensor) -> Tensor:
    """Return what differential interference contrast makes of the tissue: its slope, as shading.

    Tissue and texture are thickness here, and take no light.
    """
    strength, shear_x, shear_y = scene.relief[..., None].unbind(dim=1)  # (B, 1)

    def thickness(side: int) -> Tensor:
        y, x = ys + side * shear_y, xs + side * shear_x
        return 1 - exp(-_sum_blobs(scene.tissue, y, x)) + _sum_waves(scene.texture, y, x)

    return (1 + strength[..., None] * (thickness(1) - thickness(-1))).clamp(min=0.05)


def _sum_blobs(blobs: Blobs, ys: Tensor, xs: Tensor) -> Tensor:
    gy = exp(-0.5 * ((ys[:, None] - blobs.y[..., None]) / blobs.sigma_y[..., None]) ** 2)
    gx = exp(-0.5 * ((xs[:, None] - blobs.x[..., None]) / blobs.sigma_x[..., None]) ** 2)
    return (blobs.amplitude[..., None] * gy).transpose(1, 2) @ gx  # (B, H, W)


def _sum_waves(waves: Waves, ys: Tensor, xs: Tensor) -> Tensor:
    # cos(x + y) = cos x cos y - sin x sin y: a plane wave is two separable terms.
    y = waves.ky[..., None] * ys[:, None]
    x = waves.kx[..., None] * xs[:, None] + waves.phase[..., None]
    a = waves.amplitude[..., None]
    rows = torch.cat([a * y.cos(), -a * y.sin()], dim=1)
    return rows.transpose(1, 2) @ torch.cat([x.cos(), x.sin()], dim=1)
