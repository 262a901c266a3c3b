"""Compare models tested on the same images: the paper's tables with its figures beside ours.

Every figure comes from the records of the tests; the paper's are in `PAPER`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from pipedet.evaluation.protocols import TipRecord, known_count
from pipedet.evaluation.report import markdown_table
from pipedet.evaluation.summary import (
    MIN_SESSIONS,
    THRESHOLDS,
    by_count,
    paired_bootstrap,
    same_images,
    summarise,
)

# arXiv 2504.01044, Tables II and IV, on its own images: error um, share within 3, 5, 10 um, IoU.
PAPER = {
    'vgg16': (11.70, 31.72, 49.65, 69.65, None),
    'resnet18': (13.83, 17.24, 42.75, 68.96, None),
    'resnet50': (18.22, 55.86, 73.79, 81.37, None),
    'vit': (19.34, 35.86, 62.06, 84.13, None),
    'ours': (2.52, 73.79, 89.65, 98.62, 0.69),
    'gan': (15.08, None, None, 84.82, None),
    'gan_coarse': (5.24, None, None, 89.74, 0.62),
    'gan_fine': (4.67, None, None, 93.58, None),
    'gan_all': (2.52, None, None, 98.62, 0.69),
}
CURVE = np.arange(0.5, 20.5, 0.5)  # thresholds of the curves, um or px
CHOSEN = 5  # um or px: the threshold of the table by count and of the cost figure
DIFFERENCE_NOTE = (
    'Row less column, with the 95 % interval of a bootstrap that draws the same sessions for both '
    f'(images, in a set of fewer than {MIN_SESSIONS} sessions); bold where it leaves out 0.'
)


@dataclass(kw_only=True)
class ModelResult:
    """One model of a comparison; `fault` says why it has no records."""

    name: str
    records: list[TipRecord] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)  # train.json
    costs: dict[str, Any] = field(default_factory=dict)  # latency.json
    fault: str = ''


def check_same_images(results: Sequence[ModelResult]) -> None:
    """Mark as at fault what was tested on other images than the first model that was tested."""
    tested = [result for result in results if not result.fault]
    for result in tested[1:]:
        if not same_images(result.records, tested[0].records):
            result.fault = f'tested on other images than {tested[0].name}'


def measure(results: Sequence[ModelResult]) -> dict[str, Any]:
    """Return all figures: of every group of images its models, and of every pair the differences.

    A group is a subset; its images without a scale, with errors in pixels, are one of their own.
    """
    tested = [result for result in results if not result.fault]
    groups: dict[str, Any] = {}
    for subset, unit in sorted({(r.subset, r.unit) for t in tested for r in t.records}):
        own = {t.name: select(t.records, subset, unit) for t in tested}
        has_tips = any(len(record.true) for record in own[tested[0].name])
        groups[subset if unit == 'um' else f'{subset}, px'] = dict(
            subset=subset,
            unit=unit,
            has_tips=has_tips,
            models={name: _measure_model(records) for name, records in own.items()},
            differences={
                f'{a} - {b}': {
                    t: paired_bootstrap(own[a], own[b], f'tip/acc@{t}{unit}') for t in THRESHOLDS
                }
                for a, b in combinations(own, 2)
                if has_tips
            },
        )
    return dict(
        groups=groups,
        training={r.name: r.training for r in tested},
        costs={r.name: r.costs for r in tested},
        faults={r.name: r.fault for r in results if r.fault},
    )


def select(records: Sequence[TipRecord], subset: str, unit: str) -> list[TipRecord]:
    """Return the records of one group of images."""
    return [record for record in records if (record.subset, record.unit) == (subset, unit)]


def _measure_model(records: Sequence[TipRecord]) -> dict[str, Any]:
    distances = np.concatenate([known_count(record) for record in records])
    curve = {f'{t:g}': float(100 * (distances < t).mean()) for t in CURVE if len(distances)}
    return dict(summary=summarise(records), by_count=by_count(records), share_within=curve)


def to_markdown(figures: dict[str, Any], context: dict[str, Any], pictures: list[str]) -> str:
    """Return the report."""
    lines = ['# Comparison', '', *(f'- {key}: {value}' for key, value in context.items()), '']
    for name, fault in figures['faults'].items():
        lines += [f'**{name} has no figures**: {fault}', '']
    for title, own in figures['groups'].items():
        models, unit = own['models'], own['unit']
        lines += [f'## {title}', '', *_main_table(models, unit, figures)]
        if not own['has_tips']:
            continue
        lines += [f'### Share of tips within {CHOSEN} {unit} by the number of tips, %', '']
        lines += _count_table(models, unit)
        for threshold in THRESHOLDS if own['differences'] else ():
            lines += [f'### Differences of the share of tips within {threshold} {unit}, points', '']
            lines += [DIFFERENCE_NOTE, '']
            lines += _difference_table(list(models), own['differences'], threshold)
    for picture in pictures:
        lines += [f'![{picture}]({picture})', '']
    return '\n'.join(lines)


def _main_table(models: dict[str, Any], unit: str, figures: dict[str, Any]) -> list[str]:
    header = ['model', f'error, {unit}', f'within 3 {unit}, %', '5', '10', 'F1@5', 'ghosts/image']
    header += ['heatmap IoU', 'p50, ms', 'p99, ms', 'GFLOP', 'M weights', 'images seen']
    header += [f'*paper: {column}*' for column in ('error', '3', '5', '10', 'IoU')]
    rows = []
    for name, own in models.items():
        keys = [f'tip/error_{unit}', *(f'tip/acc@{r}{unit}' for r in THRESHOLDS)]
        costs, training = figures['costs'][name], figures['training'][name]
        timed = costs.get('batches', [{}])[0]
        rows.append([
            name,
            *(_cell(own['summary'].get(key)) for key in (*keys, f'open/f1@5{unit}')),
            _cell(own['summary'].get('open/ghosts_per_image'), 2),
            _cell(own['summary'].get('heatmap/iou'), 2),
            *(_cell(timed.get(key)) for key in ('p50_ms', 'p99_ms')),
            *(_cell(costs.get(key), 2) for key in ('gflop', 'parameters_m')),
            training.get('samples_seen', '-'),
            *(_cell(value, 2) for value in PAPER.get(name, [None] * 5)),
        ])  # fmt: skip
    return markdown_table(header, rows)


def _count_table(models: dict[str, Any], unit: str) -> list[str]:
    counts = sorted({count for own in models.values() for count in own['by_count'] if count})
    rows = [
        [name, *(_cell(own['by_count'].get(n, {}).get(f'tip/acc@{CHOSEN}{unit}')) for n in counts)]
        for name, own in models.items()
    ]
    return markdown_table(['model', *counts], rows)


def _difference_table(names: list[str], differences: dict, threshold: float) -> list[str]:
    def cell(a: str, b: str) -> str:
        if a == b:
            return ''
        if (key := f'{a} - {b}') in differences:
            value, low, high = differences[key][threshold]
        else:
            value, high, low = (-x for x in differences[f'{b} - {a}'][threshold])
        text = f'{value:+.1f} [{low:+.1f}, {high:+.1f}]'
        return f'**{text}**' if low * high > 0 else text

    return markdown_table(['', *names], [[a, *(cell(a, b) for b in names)] for a in names])


def _cell(value: float | None, digits: int = 1) -> str:
    return '-' if value is None else f'{value:.{digits}f}'
