"""KindMetric: precision, recall and F1 of each kind of object, within a region of interest."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.utils.data import Dataset

from pipedet.evaluation.metrics import to_record
from pipedet.evaluation.protocols import TipRecord, open_count
from pipedet.registry import METRICS

Counts = tuple[int, int, int]  # hits, predictions, true objects


@METRICS.register_module()
class KindMetric(BaseMetric):
    """The open-count protocol of each kind by itself: one of the wrong kind is a miss and a ghost.

    Samples are `TipDataSample.to_dict()`; those with a `mask` count what lies in it and nothing
    else, neither predictions nor true objects. Distances are in pixels of the original image. Keys
    are `kind/f1@5px/6nm` and alike, in percent, and `kind/f1@5px`, the mean over the kinds.

    Args:
        names: of the kinds, in the order of their numbers.
        radius: of a hit, px.
    """

    default_prefix = ''  # the keys carry their own
    measured: dict[str, float] = {}

    def __init__(self, *, names: Sequence[str], radius: float) -> None:
        super().__init__()
        self.names, self.radius = tuple(names), radius

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count one batch."""
        self.results.extend(self._count(sample) for sample in data_samples)

    def compute_metrics(self, results: list[list[Counts]]) -> dict[str, float]:
        """Sum the counts over the images of all ranks, then divide."""
        sums = np.sum(results, axis=0)  # (kinds, 3)
        end = f'@{self.radius:g}px'
        metrics = {}
        for name, (hits, n_pred, n_true) in zip(self.names, sums.tolist(), strict=True):
            ratios = dict(
                precision=(hits, n_pred), recall=(hits, n_true), f1=(2 * hits, n_pred + n_true)
            )
            metrics |= {
                f'kind/{key}{end}/{name}': 100.0 * top / bottom
                for key, (top, bottom) in ratios.items()
                if bottom  # nothing predicted has no precision
            }
        scores = [value for key, value in metrics.items() if key.startswith('kind/f1')]
        if scores:
            metrics[f'kind/f1{end}'] = float(np.mean(scores))
        self.measured = dict(images=float(len(results)), **metrics)
        return self.measured

    def write(self, folder: Path, title: str, context: dict[str, Any], dataset: Dataset) -> str:
        """Write report.md and metrics.json into `folder`; return the report."""
        end = f'@{self.radius:g}px'
        lines = [f'# {title}', '', *(f'- {key}: {value}' for key, value in context.items()), '']
        lines += [
            f'| within {self.radius:g} px, % | precision | recall | F1 |',
            '|---|---|---|---|',
        ]
        for name in self.names:
            values = (
                self.measured.get(f'kind/{k}{end}/{name}') for k in ('precision', 'recall', 'f1')
            )
            cells = ('-' if value is None else f'{value:.1f}' for value in values)
            lines.append(f'| {name} | {" | ".join(cells)} |')
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'report.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')
        content = dict(title=title, context=context, **self.measured)
        (folder / 'metrics.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        return '\n'.join(lines)

    def _count(self, sample: dict) -> list[Counts]:
        # In pixels: a scale would turn the distances into micrometres.
        record = to_record(sample | dict(pixel_size_um=None))
        true_kind = _on_cpu(sample['gt_tips']['kind'])
        kind = _on_cpu(sample['pred_tips']['kind']) if 'pred_tips' in sample else np.empty(0)
        mask = _on_cpu(sample['mask']) if 'mask' in sample else None
        true_in, pred_in = (_inside(mask, points) for points in (record.true, record.pred))
        return [
            open_count(
                _select(record, true_in & (true_kind == k), pred_in & (kind == k)), self.radius
            )
            for k in range(len(self.names))
        ]


def _select(record: TipRecord, true: np.ndarray, pred: np.ndarray) -> TipRecord:
    return replace(
        record,
        true=record.true[true],
        pred=record.pred[pred],
        scores=record.scores[pred],
        cnr=None,
    )


def _on_cpu(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()


def _inside(mask: np.ndarray | None, points: np.ndarray) -> np.ndarray:
    """Return which of (N, 2) points lie on a pixel of the mask (H, W); all do without one."""
    if mask is None:
        return np.ones(len(points), bool)
    x, y = np.round(points).astype(int).T
    within = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
    inside = np.zeros(len(points), bool)
    inside[within] = mask[y[within], x[within]]
    return inside
