"""What sets the tips apart that every one of several runs misses, and how they look.

    python benchmarks/misses.py work_dirs/quickstart work_dirs/large_kernels work_dirs/tipnet_s

Of the tips of CNR 1 and more in the frozen set `standard`, told how many there are, by what
`pipedet train` and `pipedet test` left in each run. Writes results/misses.json, the table between
the marks in README.md, and pictures/misses.jpg.
"""

import argparse
import datetime
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from runs import tests_of
from tables import rewrite

from pipedet.evaluation.protocols import known_count
from pipedet.synthesis.difficulty import neighbourhood
from pipedet.synthesis.frozen import frozen_scene
from pipedet.synthesis.render import render_at
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.stream import LabelledScene
from pipedet.visualization import TRUE, contact_sheet, to_display, write_picture

HERE = Path(__file__).parent
SUBSET = 'standard'
SEEN, FOUND_UM = 1.0, 10.0  # CNR from which a tip should be seen, distance at which it is found
GROUPS = 'found by all', 'missed by some', 'missed by all'
# Name of a property -> when a tip has it.
HARD = {
    'less than the clutter': lambda tip: tip['signal_to_clutter'] < 1,
    "in another's shadow": lambda tip: tip['light'] < 0.7,
    'a faint shaft': lambda tip: tip['depth'] < 0.5,
    'saturated': lambda tip: tip['saturated'] > 0.2,
}
SHOWN = 12


def main(runs: list[Path]) -> None:
    """Compare the runs' misses, and write."""
    records = tests_of(runs, SUBSET)
    tips, pairs = [], []
    for index in range(len(next(iter(records.values())))):
        drawn, cnr = frozen_scene(SUBSET, index)
        source = f'synthetic/{SUBSET}/{index:06d}'
        away = np.stack([known_count(own[source]) for own in records.values()])  # (runs, N)
        pipettes = drawn.labelled.nonzero().flatten().tolist()
        for n in np.flatnonzero(cnr >= SEEN):
            missed = int((away[:, n] >= FOUND_UM).sum())
            group = GROUPS[(missed > 0) + (missed == len(runs))]
            tips.append(dict(group=group, cnr=float(cnr[n]), **_look(drawn.scene, pipettes[n])))
            if group == GROUPS[2]:
                pairs.append(_pair(drawn, pipettes[n], f'{cnr[n]:.1f}'))
    found = dict(
        runs=list(records),
        date=datetime.date.today().isoformat(),
        tips=len(tips),
        groups={group: _summary([t for t in tips if t['group'] == group]) for group in GROUPS},
    )
    (HERE / 'results' / 'misses.json').write_text(
        json.dumps(found, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'misses', to_markdown(found))
    if pairs:  # from all over the set: neighbours share a session
        shown = [pairs[i] for i in np.linspace(0, len(pairs) - 1, SHOWN).round().astype(int)]
        sheet = contact_sheet([tile for pair in shown for tile in pair], columns=8)
        write_picture(HERE / 'pictures' / 'misses.jpg', sheet)


def _look(scene: Scene, k: int) -> dict[str, float]:
    """Return what may hide the tip of pipette k, from the expected image within 8 px of it."""
    xs, ys, inside = neighbourhood(scene.pipettes.tip[:, k])
    there, without, bare = (
        render_at(one, ys, xs)[:, inside] for one in (scene, scene.without(k), scene.bare())
    )
    full = (1 - float(scene.sensor.offset)) / float(scene.sensor.gain)  # what fills the scale
    return dict(
        signal_to_clutter=float((there - without).square().mean().sqrt() / without.std()),
        light=float(without.mean() / bare.mean()),
        depth=float(scene.pipettes.depth[0, k]),
        saturated=float((there > full).float().mean()),
    )


def _summary(tips: list[dict]) -> dict:
    return dict(
        tips=len(tips),
        cnr=float(np.median([tip['cnr'] for tip in tips])) if tips else None,
        share={
            name: 100.0 * float(np.mean([has(t) for t in tips] or [0]))
            for name, has in HARD.items()
        },
        any=100.0 * float(np.mean([any(has(t) for has in HARD.values()) for t in tips] or [0])),
    )


def _pair(drawn: LabelledScene, k: int, caption: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene, and again with the tip of pipette k ringed and its shaft's way marked."""
    pipettes = drawn.scene.pipettes
    plain, tip, angle = to_display(drawn.capture()), pipettes.tip[0, k], pipettes.angle[0, k]
    along = torch.stack([angle.cos(), angle.sin()])
    ends = ((tip + step * along).round().int().tolist() for step in (9, 40))
    ringed = cv2.circle(plain.copy(), tip.round().int().tolist(), 9, TRUE, 1, cv2.LINE_AA)
    cv2.line(ringed, *ends, TRUE, 1, cv2.LINE_AA)
    cv2.putText(ringed, caption, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, TRUE, 1, cv2.LINE_AA)
    return plain, ringed


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'{found["tips"]} tips of CNR {SEEN:g} and more in `{SUBSET}` (synthetic), told how many, '
        f'within {FOUND_UM:g} um; runs: {", ".join(found["runs"])}; {found["date"]}.',
        '',
        f'| tips | number | % | median CNR | {", % | ".join(HARD)}, % | any of these, % |',
        '|---' * (5 + len(HARD)) + '|',
    ]
    for group, row in found['groups'].items():
        cnr = '-' if row['cnr'] is None else f'{row["cnr"]:.1f}'
        shares = [f'{share:.0f}' for share in (*row['share'].values(), row['any'])]
        lines.append(
            f'| {group} | {row["tips"]} | {100 * row["tips"] / found["tips"]:.1f} | {cnr} | '
            + ' | '.join(shares)
            + ' |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='run folders, trained and tested')
    main(parser.parse_args().runs)
