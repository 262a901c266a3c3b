"""Sum up a cross-validation: every fold and seed, their mean and spread, and all images at once."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipedet.evaluation.protocols import TipRecord
from pipedet.evaluation.report import markdown_table
from pipedet.evaluation.summary import THRESHOLDS, summarise


@dataclass
class FoldResult:
    """One training of a fold; `fault` says why it has no records."""

    fold: int
    seed: int
    left_out: str
    records: list[TipRecord] = field(default_factory=list)
    device: str = ''
    fault: str = ''


def write_folds(results: list[FoldResult], context: dict[str, Any], folder: Path) -> str:
    """Write crossval.json and crossval.md; return the text."""
    done = [result for result in results if not result.fault]
    context = context | dict(device=', '.join(sorted({result.device for result in done})))
    runs = [
        dict(fold=r.fold, left_out=r.left_out, seed=r.seed, fault=r.fault) | summarise(r.records)
        for r in results
    ]
    figures = measure(done)
    units = sorted({record.unit for result in done for record in result.records})
    keys = [f'tip/acc@{t}{unit}' for unit in units for t in THRESHOLDS]
    keys += [f'{name}{unit}' for unit in units for name in ('tip/error_', 'open/f1@5')]

    def cells(summary: dict[str, float]) -> list[str]:
        return [f'{summary[key]:.2f}' if key in summary else '-' for key in keys]

    about = ['fold', 'left_out', 'seed', 'images', 'tips']
    lines = ['# Cross-validation', '', *(f'- {key}: {value}' for key, value in context.items())]
    for r in results:
        lines += ['', f'**Fold {r.fold}, seed {r.seed} has no figures**: {r.fault}'] * bool(r.fault)
    lines += ['', *markdown_table([*about, *keys], [[*map(r.get, about), *cells(r)] for r in runs])]
    lines += markdown_table(['', *keys], [[name, *cells(s)] for name, s in figures.items()])
    content = dict(context, runs=runs, figures=figures)
    (folder / 'crossval.json').write_text(json.dumps(content, indent=1), encoding='utf-8')
    (folder / 'crossval.md').write_text('\n'.join(lines), encoding='utf-8')
    return '\n'.join(lines)


def measure(results: Sequence[FoldResult]) -> dict[str, dict[str, float]]:
    """Return mean and spread over the folds, and over the seeds those of all images left out.

    A fold counts with its mean over the seeds; spreads are standard deviations of a sample.
    """
    by_fold, pooled = defaultdict(list), defaultdict(list)
    for result in results:
        by_fold[result.fold].append(summarise(result.records))
        pooled[result.seed] += result.records
    folds = [_over(np.mean, summaries) for summaries in by_fold.values()]
    seeds = {seed: summarise(records) for seed, records in pooled.items()}
    # A seed with a failed fold has fewer images: it is shown, but averaged with no other.
    most = max((len(records) for records in pooled.values()), default=0)
    whole = [summary for seed, summary in seeds.items() if len(pooled[seed]) == most]
    return {
        'mean of the folds': _over(np.mean, folds),
        'std of the folds': _over(_std, folds),
        **{f'all {s["images"]} images, seed {seed}': s for seed, s in seeds.items()},
        'all images, mean of the seeds': _over(np.mean, whole),
        'all images, std of the seeds': _over(_std, whole),
    }


def _over(statistic: Callable, summaries: Collection[dict[str, float]]) -> dict[str, float]:
    """Return a statistic of every metric over the summaries that have it, where there is one."""
    keys = dict.fromkeys(key for summary in summaries for key in summary)
    values = {key: statistic([s[key] for s in summaries if key in s]) for key in keys}
    return {key: float(value) for key, value in values.items() if np.isfinite(value)}


def _std(values: list[float]) -> float:
    return np.std(values, ddof=1) if len(values) > 1 else np.nan
