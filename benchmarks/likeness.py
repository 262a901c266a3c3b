"""How like the real in vivo frame the scenes are, in the figures that were taken from it.

    python benchmarks/likeness.py

The frame is the paper's public figure of four pipettes (256x256, 8 bit, some 0.76 um a pixel); it
was measured once, and scenes are to lie round it. Lengths are in its pixels. Writes
results/likeness.json and the table between the marks in README.md.
"""

import argparse
import datetime
import json
from collections import defaultdict
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from tables import rewrite

from pipedet.synthesis import draw_scene, render
from pipedet.synthesis.recipes import REFERENCE_UM
from pipedet.synthesis.stream import LabelledScene

HERE = Path(__file__).parent
SEED = 78
PIPETTES = 4
DARK = 0.6  # depth from which a pipette is a dark wedge, as those of the frame are
ACROSS = np.arange(-80, 80.5, 0.5)  # reference pixels
PERCENTILES = {0.5: 11, 5: 21, 25: 48, 50: 74, 75: 98, 95: 149, 99.5: 179}
NOISE = {20: 2.6, 60: 4.0, 100: 5.2, 150: 5.8}
DEPTH = {5: 'under 10', 15: '20 to 25', 45: '45 to 60', 100: '65 to 80'}
WIDTH = {30: '12', 60: '24', 100: '45 to 55', 140: '70'}
SOFT = {30: '8', 60: '15 to 20', 100: '15 to 20'}
REAL = (
    {f'grey, percentile {p}': str(grey) for p, grey in PERCENTILES.items()}
    | {f'noise at grey {grey}': str(std) for grey, std in NOISE.items()}
    | {'noise, correlation of neighbours': '0.5', 'noise, correlation 2 px apart': '0'}
    | {f'wedge, depth {d} px from the tip, %': text for d, text in DEPTH.items()}
    | {f'wedge, width at half depth at {d} px': text for d, text in WIDTH.items()}
    | {f'wedge, 20 to 80 % of its edge at {d} px': text for d, text in SOFT.items()}
    | {'nearest other tip, px': '45 to 70'}
)


def main(scenes: int) -> None:
    """Measure and write."""
    values = defaultdict(list)
    for drawn in islice(_four_pipettes(), scenes):
        for measure in (_greys, _noise, _wedges, _spacing):
            for name, value in measure(drawn):
                values[name].append(value)
    rows = {
        name: dict(real=real, n=len(values[name]))
        | dict(zip(('p10', 'p50', 'p90'), np.percentile(values[name], (10, 50, 90)), strict=True))
        for name, real in REAL.items()
    }
    found = dict(
        scenes=scenes,
        seed=SEED,
        date=datetime.date.today().isoformat(),
        rows=rows,
    )
    (HERE / 'results' / 'likeness.json').write_text(
        json.dumps(found, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'likeness', to_markdown(found))


def _four_pipettes():
    """Draw scenes of the standard recipe that show as many pipettes as the frame, no shaft more."""
    for index in count():
        drawn = draw_scene('standard', seed=SEED, epoch=0, index=index)
        if len(drawn.tips) == drawn.scene.pipettes.tip.shape[1] == PIPETTES:
            yield drawn


def _exposure(drawn: LabelledScene, frame: int) -> np.ndarray:
    """Return one image in grey levels of 8 bits."""
    return drawn.capture(frame) * (255.0 / (2.0 ** float(drawn.scene.sensor.bits[0]) - 1))


def _greys(drawn: LabelledScene):
    image = _exposure(drawn, 0)
    for percentile in PERCENTILES:
        yield f'grey, percentile {percentile}', np.percentile(image, percentile)


def _noise(drawn: LabelledScene):
    """Of two exposures of a scene the mean tells the grey level, the difference the noise."""
    first, second = _exposure(drawn, 0), _exposure(drawn, 1)
    noise, mean = (first - second) / np.sqrt(2), (first + second) / 2
    for grey in NOISE:
        here = np.abs(mean - grey) < 8
        if here.sum() > 200:
            yield f'noise at grey {grey}', noise[here].std()
    for name, lag in (('of neighbours', 1), ('2 px apart', 2)):
        pairs = noise[:, :-lag].ravel(), noise[:, lag:].ravel()
        yield f'noise, correlation {name}', np.corrcoef(*pairs)[0, 1]


def _wedges(drawn: LabelledScene):
    """Of each dark pipette alone: what share of the light it takes, along its axis and across."""
    pipettes, unit = drawn.scene.pipettes, REFERENCE_UM / float(drawn.scene.pixel_size_um[0])
    empty = _rendered(drawn, [])
    for k in np.flatnonzero(pipettes.depth[0].numpy() >= DARK):
        taken = 1 - _rendered(drawn, [k]) / empty
        angle = float(pipettes.angle[0, k])
        along = np.array([np.cos(angle), np.sin(angle)])
        beside = np.array([-along[1], along[0]])
        tip = pipettes.tip[0, k].numpy()
        for distance in sorted({*DEPTH, *WIDTH}):
            line = tip + unit * (distance * along + ACROSS[:, None] * beside)
            middle = line[len(ACROSS) // 2]
            if not ((middle >= 0) & (middle <= 255)).all():
                continue
            profile = map_coordinates(taken, line.T[::-1], order=1, mode='nearest')
            depth = profile[len(ACROSS) // 2]
            if distance in DEPTH:
                yield f'wedge, depth {distance} px from the tip, %', 100 * depth
            inside = ((line >= 0) & (line <= 255)).all(axis=1)
            levels = [_reach(profile, level * depth, inside) for level in (0.8, 0.5, 0.2)]
            if distance in WIDTH and levels[1] is not None:
                yield f'wedge, width at half depth at {distance} px', 2 * levels[1]
            if distance in SOFT and None not in levels:
                yield f'wedge, 20 to 80 % of its edge at {distance} px', levels[2] - levels[0]


def _rendered(drawn: LabelledScene, kept: list[int]) -> np.ndarray:
    scene = drawn.scene
    for k in range(PIPETTES):
        if k not in kept:
            scene = scene.without(k)
    return render(scene)[0].numpy()


def _reach(profile: np.ndarray, level: float, inside: np.ndarray) -> float | None:
    """Return how far from its middle a profile falls below a level, the mean of both sides."""
    middle, sides = len(profile) // 2, []
    for part, seen in (
        (profile[middle:], inside[middle:]),
        (profile[middle::-1], inside[middle::-1]),
    ):
        below = np.flatnonzero(part < level)
        if not len(below) or not seen[: below[0]].all():
            return None
        sides.append(below[0] * (ACROSS[1] - ACROSS[0]))
    return float(np.mean(sides))


def _spacing(drawn: LabelledScene):
    unit = REFERENCE_UM / float(drawn.scene.pixel_size_um[0])
    apart = torch.cdist(drawn.tips, drawn.tips) / unit
    apart.fill_diagonal_(torch.inf)
    for nearest in apart.amin(dim=1).tolist():
        yield 'nearest other tip, px', nearest


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'{found["scenes"]} scenes of four pipettes, recipe `standard`, seed {found["seed"]}; '
        f'{found["date"]}. Wedges are the pipettes of depth {DARK} and more.',
        '',
        '| | the frame | scenes: median | a tenth below | a tenth above |',
        '|---|---|---|---|---|',
    ]
    for name, row in found['rows'].items():
        cells = ' | '.join(f'{row[key]:.3g}' for key in ('p50', 'p10', 'p90'))
        lines.append(f'| {name} | {row["real"]} | {cells} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--scenes', type=int, default=100, help='to measure [%(default)s]')
    main(parser.parse_args().scenes)
