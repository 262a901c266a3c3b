"""What was aimed at and what is reached, of every model that ships: one table of all results.

    python benchmarks/goals.py

Reads what the other scripts left in results/ and writes the table between the marks in README.md.
A goal that is reached is printed bold; what was not measured is a dash.
"""

import json
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import NamedTuple

from corruptions import SURE
from tables import rewrite

from pipedet import zoo

HERE = Path(__file__).parent
WITHIN = tuple(f'tip/acc@{um}um' for um in (3, 5, 10))
NEAR = 'exvivo_zstack, |z| <= 4 um'  # real brightfield near the focus


class Range(NamedTuple):
    """Where a figure should be, both ends included."""

    low: float = -inf
    high: float = inf

    def __str__(self) -> str:
        if self.low == self.high:
            return f'{self.low:g}'
        if self.high == inf:
            return f'>= {self.low:g}'
        return f'<= {self.high:g}' if self.low == -inf else f'{self.low:g} to {self.high:g}'


class Goal(NamedTuple):
    """Figures of a model, where they should be, and how they are read from its results."""

    what: str
    aims: tuple[Range, ...]
    read: Callable[[dict], tuple[float, ...]]
    digits: int = 1


def _least(*lows: float) -> tuple[Range, ...]:
    return tuple(Range(low=low) for low in lows)


def _most(*highs: float) -> tuple[Range, ...]:
    return tuple(Range(high=high) for high in highs)


def _at(*path: str) -> Callable[[dict], tuple]:
    """Return what reads one value at a path of keys."""

    def read(results: dict) -> tuple:
        for key in path:
            results = results[key]
        return (results,)

    return read


def _within(*path: str) -> Callable[[dict], tuple]:
    """Return what reads the shares within 3, 5 and 10 um at a path of keys."""
    return lambda results: tuple(_at(*path, key)(results)[0] for key in WITHIN)


def _doubt(results: dict) -> tuple:
    own = results['zoo']['sets']['standard']
    return (100 * (1 - own['doubt_area'] / own['doubt_area_of_best_score']),)


def _gain(results: dict) -> tuple:
    own = results['zoo']['sets']['standard']
    return (own['surest_tips/acc@5um'] - own['tip/acc@5um'],)


def _sure(results: dict) -> tuple:
    own = results['zoo']['sets']['clear']['sure']['0']
    return own['silent'], own['answered']


def _answers(results: dict) -> tuple:
    own = results['zoo']['sets'][NEAR]
    return (own['answers'] / own['images'],)


def _silent(level: float) -> Callable[[dict], tuple]:
    """Return what reads the shares of answers wrong and of this confidence or more."""

    def read(results: dict) -> tuple:
        kept = results['corruptions']['retained']
        return tuple(kept[severities][f'silent@{level}'] for severities in ('1-3', '4-5'))

    return read


def _false_tips(results: dict) -> tuple:
    own = results['corruptions']['without_tips']
    return own['all'], own['at most']


def _megabytes(results: dict) -> tuple:
    return (results['zoo']['bytes'] / 1e6,)


SETS = ('zoo', 'sets')
GOALS = (
    Goal(
        '`standard`, tips of CNR >= 1: % within 3, 5, 10 um',
        _least(95, 98, 99),
        _within(*SETS, 'standard', 'CNR >= 1'),
    ),
    Goal('their mean error, um', _most(0.8), _at(*SETS, 'standard', 'CNR >= 1', 'tip/error_um')),
    Goal(
        'their F1 at 5 um, untold how many',
        _least(96),
        _at(*SETS, 'standard', 'CNR >= 1', 'open/f1@5um'),
    ),
    Goal(
        'error over the Cramer-Rao bound, median of the tips found',
        _most(2),
        _at('limits', 'ratio_median'),
    ),
    Goal(
        '`standard`, all tips: % within 3, 5, 10 um', _least(90, 94, 96), _within(*SETS, 'standard')
    ),
    Goal('`clear`: % within 3, 5, 10 um', _least(98, 99, 99.5), _within(*SETS, 'clear')),
    Goal('F1 at 5 um with five to eight tips', _least(93), _at(*SETS, 'crowded', 'open/f1@5um')),
    Goal('ghosts a frame, `empty`', _most(0.02), _at(*SETS, 'empty', 'open/ghosts_per_image'), 3),
    Goal(
        'ghosts a frame, 13 real images without tips',
        _most(0.02),
        _at(*SETS, 'negatives', 'open/ghosts_per_image'),
        3,
    ),
    Goal(
        'real brightfield within 4 um of the focus: % within 5 um',
        _least(90),
        _at(*SETS, NEAR, 'tip/acc@5um'),
    ),
    Goal('answers an image there (one is right)', (Range(1, 1),), _answers, 2),
    Goal('error of the height there, um', _most(3), _at(*SETS, NEAR, 'height_error_um')),
    Goal(
        '90 % ellipse holds, `standard`',
        (Range(0.85, 0.95),),
        _at(*SETS, 'standard', 'coverage'),
        2,
    ),
    Goal(
        'score off as a chance, `standard`',
        _most(0.05),
        _at(*SETS, 'standard', 'calibration_error'),
        3,
    ),
    Goal(
        'score off as a chance, real brightfield',
        _most(0.10),
        _at(*SETS, 'exvivo_zstack', 'calibration_error'),
        3,
    ),
    Goal(
        'area of risk over coverage, `standard`: % below that of the best score', _least(30), _doubt
    ),
    Goal('points within 5 um that the surest 80 % of the tips are better', _least(3), _gain),
    Goal(
        '`clear`: % of images answered wrongly without a word, at % answered',
        (Range(high=0.5), Range(low=95)),
        _sure,
    ),
    Goal(
        '`clear`: % of images with as many answers as tips',
        _least(97),
        _at(*SETS, 'clear', 'count_right'),
    ),
    Goal(
        'Pipette-C: accuracy retained, severity 1 to 3',
        _least(0.8),
        _at('corruptions', 'retained', '1-3', 'accuracy'),
        2,
    ),
    *(
        Goal(
            f'silent failures from a confidence of {level}, %, severity 1 to 3, 4 and 5',
            _most(2, 5),
            _silent(level),
        )
        for level in SURE
    ),
    Goal(
        'corruptions of 14 in which confidence falls',
        _least(12),
        _at('corruptions', 'confidence_falls'),
        0,
    ),
    Goal('frames without tips with a false one, %, and its 95 % bound', _most(1, 2), _false_tips),
    Goal(
        "times faster than the paper's model in torch, exported",
        _least(50),
        _at('speed', 'times faster than ours'),
    ),
    Goal('weights, MB', _most(8), _megabytes),
)


def results_of(name: str) -> dict:
    """Return what was measured of a model, by script."""
    folder = HERE / 'results'
    read = {
        script: json.loads((folder / f'{file}.json').read_text(encoding='utf-8'))
        for script, file in (('zoo', f'zoo_{name}'), ('limits', f'limits_{name}'))
        if (folder / f'{file}.json').is_file()
    }
    corruptions = json.loads((folder / 'corruptions.json').read_text(encoding='utf-8'))['models']
    speed = json.loads((folder / 'speed.json').read_text(encoding='utf-8'))
    return read | dict(corruptions=corruptions[name], speed=speed[f'{name}, exported'])


def to_markdown(models: dict[str, dict]) -> str:
    """Return the table of some models' results by name."""
    lines = [
        f'| | aimed at | {" | ".join(models)} |',
        '|---' * (2 + len(models)) + '|',
    ]
    for goal in GOALS:
        aims = ', '.join(map(str, goal.aims))
        cells = [_cell(goal, results) for results in models.values()]
        lines.append(f'| {goal.what} | {aims} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _cell(goal: Goal, results: dict) -> str:
    try:
        values = goal.read(results)
    except KeyError:
        return '-'
    parts = []
    for value, aim in zip(values, goal.aims, strict=True):
        text = f'{value:.{goal.digits}f}'
        parts.append(f'**{text}**' if aim.low <= value <= aim.high else text)
    return ', '.join(parts)


if __name__ == '__main__':
    models = {name: results_of(name) for name in sorted(zoo.names(), reverse=True)}
    rewrite(HERE / 'README.md', 'goals', to_markdown(models))
