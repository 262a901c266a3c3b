"""How many tips a matched filter finds that is told what the pipette looks like, but not where.

    python benchmarks/matched.py

Every sixteenth scene of the frozen set `standard`, its tips of CNR 1 and more one at a time, the
other pipettes left out. The same is asked of a Gaussian field with the spectrum of those
backgrounds: the difference is what their cells, vessels and edges cost. Writes
results/matched.json and the table between the marks in README.md.
"""

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest
from tables import rewrite

from pipedet.commands.common import device_name
from pipedet.synthesis.clutter import DARKEST, PERIOD, background_spectrum
from pipedet.synthesis.frozen import frozen_scene
from pipedet.synthesis.matched_filter import best_fit, relative_noise
from pipedet.synthesis.render import render
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import expose
from pipedet.synthesis.stream import backgrounds_of_session

HERE = Path(__file__).parent
SUBSET, EVERY = 'standard', 16
BACKGROUNDS = 40  # of each session, for its spectrum
SEEN = 1.0  # CNR from which a tip should be seen
WITHIN_UM = 10.0
FIELDS = {
    'images': 'the images themselves',
    'gaussian': 'a Gaussian field of their spectrum',
}


def main() -> None:
    """Measure and write."""
    errors = {name: [] for name in FIELDS}
    for index in range(0, 500, EVERY):
        drawn, cnr = frozen_scene(SUBSET, index)
        spectrum = background_spectrum(backgrounds_of_session(drawn, BACKGROUNDS))
        labelled = drawn.labelled.nonzero().flatten().tolist()
        for k in [k for k, own in zip(labelled, cnr, strict=True) if own >= SEEN]:
            scene = _only(drawn.scene, k)
            seed = torch.Generator().manual_seed(100 * index + k)
            for name, draw in (('images', _photograph), ('gaussian', _gaussian)):
                place = best_fit(scene, draw(scene, spectrum, seed), spectrum)
                off = (place - scene.pipettes.tip[0, 0]).norm() * scene.pixel_size_um[0]
                errors[name].append(float(off))
    tips = len(errors['images'])
    result = dict(set=SUBSET, every=EVERY, tips=tips, device=device_name('cpu'))
    result |= dict(date=datetime.date.today().isoformat(), errors_um=errors)
    (HERE / 'results' / 'matched.json').write_text(
        json.dumps(result, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'matched', to_markdown(result))


def _only(scene: Scene, k: int) -> Scene:
    """Return the scene with no pipette but `k`."""
    for other in reversed(range(scene.pipettes.tip.shape[1])):
        scene = scene if other == k else scene.without(other)
    return scene


def _photograph(scene: Scene, _: torch.Tensor, seed: torch.Generator) -> torch.Tensor:
    """Return an image of the scene, in units of brightness."""
    sensor = scene.sensor
    image = torch.from_numpy(expose(scene, render(scene), seed)[0].astype(np.float32))
    return (image / (2.0 ** sensor.bits[0] - 1) - sensor.offset[0]) / sensor.gain[0]


def _gaussian(scene: Scene, spectrum: torch.Tensor, seed: torch.Generator) -> torch.Tensor:
    """Return the pipette before Gaussian clutter and noise, as bright as the scene."""
    with_it, without = (render(s)[0].clamp(min=DARKEST) for s in (scene, scene.bare()))
    side = len(with_it)
    white = torch.randn(PERIOD, PERIOD, generator=seed, dtype=spectrum.dtype)
    clutter = torch.fft.ifft2(torch.fft.fft2(white) * spectrum.sqrt()).real[:side, :side]
    noise = torch.randn(side, side, generator=seed) * relative_noise(scene, side) ** 0.5
    return ((with_it / without).log() + clutter.float() + noise).exp()


def to_markdown(result: dict) -> str:
    """Return the table."""
    lines = [
        f'{result["tips"]} tips of CNR {SEEN:g} and more in every {result["every"]}th scene of '
        f'`{result["set"]}` (synthetic), one at a time; {result["device"]}; {result["date"]}.',
        '',
        f'| searched in | within {WITHIN_UM:g} um, % (95 %) |',
        '|---|---|',
    ]
    for name, errors in result['errors_um'].items():
        found = binomtest(sum(error < WITHIN_UM for error in errors), len(errors))
        low, high = (100 * end for end in found.proportion_ci(method='wilson'))
        share = 100 * found.statistic
        lines.append(f'| {FIELDS[name]} | {share:.1f} ({low:.1f} to {high:.1f}) |')
    return '\n'.join(lines)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
