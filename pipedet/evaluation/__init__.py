"""How well tips are found: two protocols, their summary, mmengine's metric, and the report."""

from pipedet.evaluation.image_metric import EnhancementMetric
from pipedet.evaluation.kind_metric import KindMetric
from pipedet.evaluation.metrics import TipMetric
from pipedet.evaluation.protocols import TipRecord, is_right, known_count, open_count
from pipedet.evaluation.report import read_records, write_report
from pipedet.evaluation.summary import (
    bootstrap,
    by_cnr,
    by_count,
    by_session,
    intervals,
    summarise,
)

__all__ = [
    'EnhancementMetric',
    'KindMetric',
    'TipMetric',
    'TipRecord',
    'bootstrap',
    'by_cnr',
    'by_count',
    'by_session',
    'intervals',
    'is_right',
    'known_count',
    'open_count',
    'read_records',
    'summarise',
    'write_report',
]
