"""Write an evaluation as tables to read, numbers to compute with, and records to sum up again.

The tables of the two protocols stand in sections of their own, as do images with and without a
scale; the first table has the columns of the paper's Table II.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipedet.evaluation.protocols import TipRecord
from pipedet.evaluation.summary import (
    FOUND,
    MIN_SESSIONS,
    OPEN_RADII,
    THRESHOLDS,
    by_cnr,
    by_count,
    by_session,
    intervals,
    summarise,
)
from pipedet.formats.schema import AnnotationError, Entry, Number, PixelSizeUm, check, read_json

KNOWN_NOTE = (
    'As many predictions as true tips, best scores first, matched one to one (the protocol of the '
    'paper). Accuracy: share of tips closer than the threshold; a missed tip is wrong at each. '
    'Error: mean Euclidean distance (printed as "MSE" in the paper) of the tips not missed. '
    'Brackets: 95 % bootstrap over sessions (of a share of 0 or 100 %, which every draw repeats, '
    "Wilson's interval of independent images), or over images in a set of fewer than "
    f'{MIN_SESSIONS} sessions.'
)
OPEN_NOTE = (
    'The detector decides how many tips there are. Count: share of images with exactly the right '
    f'number. Ghosts: detections per image without a tip at {OPEN_RADII[-1]} '
)


def write_report(
    records: Sequence[TipRecord], folder: str | Path, title: str, context: dict[str, Any]
) -> str:
    """Write report.md, metrics.json and records.json into `folder`; return the Markdown text.

    `context` says what was evaluated and how (checkpoint, device, seed, date): JSON values, written
    as they are.
    """
    units = {unit: [r for r in records if r.unit == unit] for unit in ('um', 'px')}
    metrics = {
        'overall': summarise(records),
        'failed': sum(record.failed for record in records),
        'abstained': sum(record.abstained for record in records),
        'subsets': {unit: _measure_subsets(own) for unit, own in units.items() if own},
        'sessions': by_session(records),
    }
    texts = {
        'report.md': _to_markdown(metrics, title, context),
        'metrics.json': _to_json({'title': title, 'context': context, **metrics}),
        'records.json': _to_json([_encode(record) for record in records]),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding='utf-8')
    return texts['report.md']


class _RecordEntry(Entry):
    """One image in records.json; 'nan' and 'inf' are strings there."""

    source: str
    frame: int
    session: str
    subset: str
    pixel_size_um: PixelSizeUm | None
    true: list[tuple[Number, Number]]
    pred: list[tuple[float, float]]
    scores: list[float]
    score_threshold: float
    cnr: list[float] | None
    failed: bool
    abstained: bool = False
    heatmap_iou: Number | None = None


def read_records(path: str | Path) -> list[TipRecord]:
    """Read a records.json of `write_report`.

    Raises:
        AnnotationError: it is none, or one of its entries is faulty; it names the entry.
    """
    content = read_json(Path(path))
    if not isinstance(content, list):
        raise AnnotationError(path, 'not a list of records; test again to write it')
    entries = [check(_RecordEntry, values, f'{path}: [{i}]') for i, values in enumerate(content)]
    return [TipRecord(**entry.model_dump()) for entry in entries]


def _encode(record: TipRecord) -> dict[str, Any]:
    """Fields as JSON values: 'nan' and 'inf', which JSON has no numbers for, as strings."""
    fields = asdict(record)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            texts = np.where(np.isfinite(value), value.astype(object), value.astype(str))
            fields[name] = texts.tolist()
    return fields


def _to_json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + '\n'


def _measure_subsets(records: Sequence[TipRecord]) -> dict[str, dict[str, Any]]:
    """Measure each subset of records that share a unit."""
    subsets = {}
    for name in sorted({record.subset for record in records}):
        own = [record for record in records if record.subset == name]
        bands, counts = by_cnr(own), by_count(own)
        of_count = {count: [r for r in own if len(r.true) == count] for count in counts}
        subsets[name] = {
            'summary': summarise(own),
            'interval_95': intervals(own),
            'by_cnr': bands,
            'by_cnr_interval_95': {band: intervals(own, band) for band in bands},
            'by_count': counts,
            'by_count_interval_95': {count: intervals(of_count[count]) for count in counts},
        }
    return subsets


def _to_markdown(metrics: dict[str, Any], title: str, context: dict[str, Any]) -> str:
    lines = [f'# {title}', '', *(f'- {key}: {value}' for key, value in context.items()), '']
    if metrics['failed']:
        total = metrics['overall']['images']
        lines += [f'Prediction failed on {metrics["failed"]} of {total} images: tips missed.', '']
    if metrics['abstained']:
        lines += [f'{metrics["abstained"]} images are unlike those of training and not answered: '
                  'in the open count they have no detections.', '']  # fmt: skip
    for unit, subsets in metrics['subsets'].items():
        lines += _known_section(unit, subsets) + _open_section(unit, subsets)
    return '\n'.join(lines)


def _known_section(unit: str, subsets: dict[str, dict[str, Any]]) -> list[str]:
    columns = {
        f'acc@{threshold} {unit} %': f'tip/acc@{threshold}{unit}' for threshold in THRESHOLDS
    }
    columns |= {
        f'error {unit}': f'tip/error_{unit}',
        f'error {unit} of those within {FOUND}': f'tip/error@{FOUND}{unit}',
        f'median {unit}': f'tip/median_{unit}',
        'missed %': 'tip/missed',
    }

    def row(names: list, summary: dict, around: dict) -> list[str]:
        return [*names, *(_cell(summary, key, around) for key in columns.values())]

    overall, bands, counts = [], [], []
    for name, subset in subsets.items():
        summary = subset['summary']
        sizes = [summary['images'], summary['tips']]
        overall.append(row([name, *sizes], summary, subset['interval_95']))
        for band, own in subset['by_cnr'].items():
            if own['tips']:
                around = subset['by_cnr_interval_95'][band]
                bands.append(row([name, band, own['tips']], own, around))
        for count, own in subset['by_count'].items():
            if count:
                around = subset['by_count_interval_95'][count]
                counts.append(row([name, count, own['images'], own['tips']], own, around))
    return [
        *(f'## Known count, {unit}', '', KNOWN_NOTE, ''),
        *markdown_table(['subset', 'images', 'tips', *columns], overall),
        *(f'### Known count, {unit}, by contrast-to-noise ratio of the tip', ''),
        *markdown_table(['subset', 'CNR', 'tips', *columns], bands),
        *(f'### Known count, {unit}, by number of pipettes in the image', ''),
        *markdown_table(['subset', 'pipettes', 'images', 'tips', *columns], counts),
    ]


def _open_section(unit: str, subsets: dict[str, dict[str, Any]]) -> list[str]:
    columns = {
        f'{name}@{radius} {unit} %': f'open/{name}@{radius}{unit}'
        for radius in OPEN_RADII
        for name in ('precision', 'recall', 'f1')
    }
    columns |= {'count %': 'open/count_acc', 'ghosts/image': 'open/ghosts_per_image'}
    rows, counts = [], []
    for name, subset in subsets.items():
        summary, around = subset['summary'], subset['interval_95']
        rows.append(
            [name, summary['images'], *(_cell(summary, k, around) for k in columns.values())]
        )
        for count, own in subset['by_count'].items():
            around = subset['by_count_interval_95'][count]
            cells = (_cell(own, key, around) for key in columns.values())
            counts.append([name, count, own['images'], *cells])
    return [
        *(f'## Open count, {unit}', '', f'{OPEN_NOTE}{unit}.', ''),
        *markdown_table(['subset', 'images', *columns], rows),
        *(f'### Open count, {unit}, by number of pipettes in the image', ''),
        *markdown_table(['subset', 'pipettes', 'images', *columns], counts),
    ]


def _cell(summary: dict[str, float], key: str, around: dict[str, tuple]) -> str:
    if key not in summary:
        return '-'
    digits = 2 if key.startswith(('tip/error', 'tip/median', 'open/ghosts')) else 1
    text = f'{summary[key]:.{digits}f}'
    if key in around:
        low, high = around[key]
        text += f' [{low:.{digits}f}, {high:.{digits}f}]'
    return text


def markdown_table(header: Sequence[str], rows: Iterable[Sequence]) -> list[str]:
    """Return the lines of a Markdown table and a blank one; 'No data.' without rows."""
    header = [str(name) for name in header]
    cells = [[str(cell).replace('|', '\\|') for cell in row] for row in rows]
    if not cells:
        return ['No data.', '']
    lines = [header, ['---'] * len(header), *cells]
    return [*('| ' + ' | '.join(line) + ' |' for line in lines), '']
