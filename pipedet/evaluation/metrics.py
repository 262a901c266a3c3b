"""TipMetric: what mmengine's evaluator calls to turn predicted samples into the summary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch.utils.data import Dataset

from pipedet.evaluation.pictures import draw_best_and_worst
from pipedet.evaluation.protocols import TipRecord
from pipedet.evaluation.report import write_report
from pipedet.evaluation.summary import summarise
from pipedet.registry import METRICS
from pipedet.runtime.tips import why_unlike
from pipedet.structures import apply_affine


@METRICS.register_module()
class TipMetric(BaseMetric):
    """Both protocols over all images; `records` keeps the images of the last evaluation (rank 0).

    Samples are `TipDataSample.to_dict()`. One without `pred_tips` is an image whose prediction
    failed.
    """

    default_prefix = ''  # the keys carry their own: tip/..., open/...
    records: Sequence[TipRecord] = ()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Record one batch."""
        self.results.extend(to_record(sample) for sample in data_samples)

    def compute_metrics(self, results: list[TipRecord]) -> dict[str, float]:
        """Summarise the records of all ranks."""
        self.records = list(results)
        return summarise(self.records)

    def write(self, folder: Path, title: str, context: dict[str, Any], dataset: Dataset) -> str:
        """Write the report and the pictures of a test into `folder`; return the report."""
        lines = [write_report(self.records, folder, title, context)]
        lines += [
            f'not read, its tips counted as missed: {record.source}, frame {record.frame}'
            for record in self.records
            if record.failed
        ]
        for subset in sorted({record.subset for record in self.records}):
            draw_best_and_worst(dataset, self.records, subset, folder)
        return '\n'.join(lines)


def to_record(sample: dict) -> TipRecord:
    """Bring one sample's truth (input pixels) and prediction (original pixels) to one frame."""
    true = sample['gt_tips']
    points = _to_array(true['points']).reshape(-1, 2)
    record = dict(
        source=str(sample['source']),
        frame=int(sample['frame']),
        session=sample['session'],
        subset=sample['subset'],
        pixel_size_um=sample['pixel_size_um'],
        true=apply_affine(np.linalg.inv(sample['matrix']), points),
        cnr=_to_array(true['cnr']) if 'cnr' in true else None,
    )
    if 'pred_tips' not in sample:
        return TipRecord(**record, pred=[], scores=[], score_threshold=0.0, failed=True)
    return TipRecord(
        **record,
        pred=_to_array(sample['pred_tips']['points']),
        scores=_to_array(sample['pred_tips']['scores']),
        # In float32 as the scores, else one of exactly 0.7 would fall below its threshold.
        score_threshold=float(np.float32(sample['score_threshold'])),
        heatmap_iou=sample.get('heatmap_iou'),
        abstained=why_unlike(sample.get('novelty', 0.0)) is not None,
    )


def _to_array(values: torch.Tensor | np.ndarray) -> np.ndarray:
    return torch.as_tensor(values).double().cpu().numpy()
