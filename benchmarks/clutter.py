"""How well a pipette can be told from its surroundings, and which runs find its tip then.

    python benchmarks/clutter.py work_dirs/quickstart work_dirs/tipnet_s

For every tip of the frozen set `standard`, d' of its pipette for the best linear observer before
noise and clutter (`pipedet.synthesis.clutter`) and how probably that one, told the shape, finds it
in the frame, beside what `pipedet test` left in each run; of every eighth scene also how well its
tips could be located. Writes results/clutter.json, the table
between the marks in README.md, and pictures/clutter.png.
"""

import argparse
import datetime
import json
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from runs import tests_of
from scipy.stats import mannwhitneyu
from tables import rewrite

from pipedet.evaluation import known_count
from pipedet.synthesis.clutter import (
    background_spectrum,
    cramer_rao_in_clutter,
    detectability,
    found_among,
)
from pipedet.synthesis.frozen import frozen_scene
from pipedet.synthesis.limits import cramer_rao
from pipedet.synthesis.stream import backgrounds_of_session

HERE = Path(__file__).parent
SUBSET = 'standard'
BACKGROUNDS = 40  # of each session, for its spectrum
EVERY = 8  # scenes of which one is used for bounds, which take long
WITHIN_UM = (3.0, 5.0, 10.0)
SEEN = 1.0  # CNR from which a tip should be seen
PLACES = 1e5  # and directions, roughly: somewhere among them chance alone comes to 4.3
EDGES = (0, 5, 6, 7, 8, 10, 12, 20, np.inf)


def main(runs: list[Path]) -> None:
    """Measure and write."""
    records = tests_of(runs, SUBSET)
    tips = measure(records)
    names = list(records)
    result = dict(
        set=SUBSET,
        date=datetime.date.today().isoformat(),
        runs=names,
        tips=len(tips),
        seen=sum(tip['cnr'] >= SEEN for tip in tips),
        bands=[_band(tips, names, *ends) for ends in [*pairwise(EDGES), (0, np.inf)]],
        told_from_missed={name: _told_from_missed(tips, name) for name in names},
        located={name: _located(tips, name) for name in names},
    )
    (HERE / 'results' / 'clutter.json').write_text(
        json.dumps(result, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'clutter', to_markdown(result))
    _plot(tips, names, HERE / 'pictures' / 'clutter.png')


def measure(records: dict[str, dict]) -> list[dict]:
    """Return CNR, d', bounds and every run's error of each labelled tip of the set."""
    tips, session, spectrum = [], None, None
    for index in range(len(next(iter(records.values())))):
        drawn, cnr = frozen_scene(SUBSET, index)
        if drawn.session != session:  # neighbours share one
            session = drawn.session
            spectrum = background_spectrum(backgrounds_of_session(drawn, BACKGROUNDS))
        source = f'synthetic/{SUBSET}/{index:06d}'
        errors = {name: known_count(own[source]) for name, own in records.items()}
        bounds = cramer_rao(drawn.scene)[0].tolist() if index % EVERY == 0 else None
        for n, k in enumerate(drawn.labelled.nonzero().flatten().tolist()):
            tip = dict(
                cnr=float(cnr[n]),
                detectability=detectability(drawn.scene, k, spectrum),
                errors={name: float(own[n]) for name, own in errors.items()},
            )
            if bounds is not None:
                tip['bound'] = bounds[k]
                tip['bound_in_clutter'] = cramer_rao_in_clutter(drawn.scene, k, spectrum)
            tips.append(tip)
    return tips


def _band(tips: list[dict], names: list[str], low: float, high: float) -> dict:
    """Return who is how well seen, of the tips of CNR 1 and more, and which are found."""
    seen = [tip for tip in tips if tip['cnr'] >= SEEN]
    own = [tip for tip in seen if low <= tip['detectability'] < high]
    return dict(
        low=low,
        high=None if high == np.inf else high,
        tips=len(own),
        share=100 * len(own) / len(seen),
        observer=100 * float(_chances(own).mean()) if own else None,
        found={name: _found(own, name) for name in names if own},
    )


def _chances(tips: list[dict]) -> np.ndarray:
    return found_among(np.array([tip['detectability'] for tip in tips]), PLACES)


def _found(tips: list[dict], name: str) -> list[float]:
    """Return the % of tips within each of `WITHIN_UM`."""
    errors = np.array([tip['errors'][name] for tip in tips])
    return [100 * float((errors < um).mean()) for um in WITHIN_UM]


def _told_from_missed(tips: list[dict], name: str) -> dict:
    """Return how often a found tip has more of each than a missed one (the area under the ROC)."""
    found = np.array([tip['errors'][name] < WITHIN_UM[-1] for tip in tips])
    areas = {}
    for key in ('cnr', 'detectability'):
        values = np.array([tip[key] for tip in tips])
        rank = mannwhitneyu(values[found], values[~found]).statistic
        areas[key] = float(rank / found.sum() / (~found).sum())
    return areas


def _located(tips: list[dict], name: str) -> dict:
    """Return the errors of found tips over either bound, medians."""
    own = [tip for tip in tips if 'bound' in tip and tip['errors'][name] < WITHIN_UM[-1]]
    medians = {
        key: float(np.median([tip[key] for tip in own])) for key in ('bound', 'bound_in_clutter')
    }
    ratios = {
        f'over_{key}': float(np.median([tip['errors'][name] / tip[key] for tip in own]))
        for key in ('bound', 'bound_in_clutter')
    }
    return dict(tips=len(own), **medians, **ratios)


def to_markdown(result: dict) -> str:
    """Return the table."""
    within = '/'.join(f'{um:g}' for um in WITHIN_UM)
    lines = [
        f'{result["seen"]} tips of CNR {SEEN:g} and more in `{SUBSET}` (synthetic), told how many; '
        f'% within {within} um; {result["date"]}.',
        '',
        f"| d' | tips | % | the observer finds, % | {' | '.join(result['runs'])} |",
        '|---' * (4 + len(result['runs'])) + '|',
    ]
    for band in result['bands']:
        found = [' / '.join(f'{v:.1f}' for v in own) for own in band['found'].values()]
        found = found or ['-'] * len(result['runs'])
        observer = '-' if band['observer'] is None else f'{band["observer"]:.1f}'
        cells = [
            _ends(band['low'], band['high']),
            band['tips'],
            f'{band["share"]:.1f}',
            observer,
            *found,
        ]
        lines.append('| ' + ' | '.join(str(cell) for cell in cells) + ' |')
    return '\n'.join(lines)


def _ends(low: float, high: float | None) -> str:
    if high is None:
        return f'{low:g} and on' if low else 'all'
    return f'{low:g} to {high:g}'


def _plot(tips: list[dict], names: list[str], out: Path) -> None:
    """Share found of ever better seen tips, twenty groups of as many, all of the set."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout='constrained', sharey=True)
    shown = {
        'detectability': ("d' of the pipette before noise and clutter", (2, 5, 10, 20, 40)),
        'cnr': ('contrast-to-noise ratio', (0.2, 0.5, 1, 2, 5)),
    }
    for axis, (key, (label, ticks)) in zip(axes, shown.items(), strict=True):
        values = np.array([tip[key] for tip in tips])
        groups = np.array_split(np.argsort(values), 20)
        for name in names:
            found = np.array([tip['errors'][name] < WITHIN_UM[-1] for tip in tips])
            middles = [np.median(values[group]) for group in groups]
            axis.plot(middles, [100 * found[group].mean() for group in groups], '.-', label=name)
        axis.set(xscale='log', xlabel=label, ylim=(0, 100))
        axis.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    chances = 100 * _chances(tips)
    order = np.argsort([tip['detectability'] for tip in tips])
    axes[0].plot(
        [tips[n]['detectability'] for n in order],
        chances[order],
        'k--',
        lw=1,
        label='the observer, told the shape',
    )
    axes[0].set_ylabel(f'% within {WITHIN_UM[-1]:g} um')
    axes[0].legend()
    figure.savefig(out, dpi=100)
    plt.close(figure)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='run folders, trained and tested')
    main(parser.parse_args().runs)
