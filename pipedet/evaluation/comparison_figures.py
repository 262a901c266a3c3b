"""Figures of a comparison: accuracy against threshold, errors, costs, and the same frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch.utils.data import Dataset

from pipedet.evaluation.comparison import CHOSEN, ModelResult, select
from pipedet.evaluation.pictures import draw_record
from pipedet.evaluation.protocols import known_count
from pipedet.visualization import contact_sheet, write_picture

BINS = np.geomspace(0.1, 200, 45)  # of errors, um or px


def draw_figures(
    results: Sequence[ModelResult], figures: dict[str, Any], dataset: Dataset, folder: Path
) -> list[str]:
    """Draw everything into `folder`; return the names of the pictures.

    `dataset` has the images of the records, in their order.
    """
    tested = [result for result in results if not result.fault]
    names = []
    for title, own in figures['groups'].items():
        if not own['has_tips']:
            continue
        stem = title.replace(', ', '_')
        _plot_curves(own, folder / f'{stem}_curves.png')
        _plot_errors(tested, own, folder / f'{stem}_errors.png')
        _plot_costs(own, figures['costs'], folder / f'{stem}_costs.png')
        _draw_frames(tested, own, dataset, folder / f'{stem}_frames.jpg')
        kinds = ('curves.png', 'errors.png', 'costs.png', 'frames.jpg')
        names += [f'{stem}_{kind}' for kind in kinds]
    return [name for name in names if (folder / name).is_file()]


def _plot_curves(own: dict[str, Any], out: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    for name, model in own['models'].items():
        curve = model['share_within']
        axes.plot([float(t) for t in curve], list(curve.values()), label=name)
    axes.set(xlabel=f'threshold, {own["unit"]}', ylabel='tips within, %', ylim=(0, 100))
    axes.legend(fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _plot_errors(tested: Sequence[ModelResult], group: dict[str, Any], out: Path) -> None:
    """One histogram of tip errors per model, on one logarithmic axis; missed tips are said."""
    figure, rows = plt.subplots(
        len(tested), 1, figsize=(6, 1.1 * len(tested) + 0.6), sharex=True, sharey=True,
        squeeze=False, layout='constrained',
    )  # fmt: skip
    for axes, result in zip(rows[:, 0], tested, strict=True):
        records = select(result.records, group['subset'], group['unit'])
        distances = np.concatenate([known_count(record) for record in records])
        found = distances[np.isfinite(distances)]
        axes.hist(found.clip(BINS[0], BINS[-1]), bins=BINS)  # the outermost bars are open
        axes.axvline(CHOSEN, color='black', linewidth=0.5)
        missed = int((~np.isfinite(distances)).sum())
        axes.set_title(f'{result.name}, {missed} missed', loc='left', fontsize=8)
    axes.set(xscale='log', xlabel=f'error, {group["unit"]}')
    figure.supylabel('tips', fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _plot_costs(own: dict[str, Any], costs: dict[str, Any], out: Path) -> None:
    """Accuracy against latency, and the front that nothing is both faster and better than."""
    key = f'tip/acc@{CHOSEN}{own["unit"]}'
    points = sorted(
        (costs[name]['batches'][0]['p50_ms'], model['summary'][key], name)
        for name, model in own['models'].items()
        if costs[name]
    )
    if not points:
        return
    figure, axes = plt.subplots(figsize=(6, 4), layout='constrained')
    front, best = [], -1.0
    for time_ms, accuracy, name in points:
        axes.plot(time_ms, accuracy, 'o', color='tab:blue')
        axes.annotate(name, (time_ms, accuracy), xytext=(4, 3), textcoords='offset points')
        if accuracy > best:
            front.append((time_ms, accuracy))
            best = accuracy
    axes.plot(*zip(*front, strict=True), color='tab:blue', linewidth=0.8)
    axes.margins(x=0.15)  # room for the names
    axes.set(
        xscale='log',
        xlabel='median latency of one image, ms',
        ylabel=f'tips within {CHOSEN} {own["unit"]}, %',
    )
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _draw_frames(
    tested: Sequence[ModelResult], group: dict[str, Any], dataset: Dataset, out: Path
) -> None:
    """The paper's Fig. 6: a row for each model, a column for each number of tips."""
    failed = {i for result in tested for i, record in enumerate(result.records) if record.failed}
    columns: dict[int, int] = {}
    for index, record in enumerate(tested[0].records):
        belongs = (record.subset, record.unit) == (group['subset'], group['unit'])
        if belongs and len(record.true) and index not in failed:
            columns.setdefault(len(record.true), index)  # the first one, whoever is good at it
    chosen = [columns[count] for count in sorted(columns)]
    samples = {index: dataset[index] for index in chosen}
    tiles = [
        draw_record(samples[index], result.records[index], caption=result.name, zoom=1)
        for result in tested
        for index in chosen
    ]
    if tiles:
        write_picture(out, contact_sheet(tiles, columns=len(chosen)))
