"""Annotation files by suffix: COCO keypoints (.json), tip tables (.csv), nothing executable."""

from pathlib import Path

from pipedet.formats.coco import read_coco, write_coco
from pipedet.formats.images import PathLike
from pipedet.formats.records import ImageRecord
from pipedet.formats.schema import AnnotationError
from pipedet.formats.tip_csv import read_tip_csv, write_tip_csv

FORMATS = {'.json': (read_coco, write_coco), '.csv': (read_tip_csv, write_tip_csv)}


def _format_of(path: PathLike) -> tuple:
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise AnnotationError(path, f'cannot hold annotations here; use one of {tuple(FORMATS)}')
    return FORMATS[suffix]


def read_annotations(
    path: PathLike, problems: list[AnnotationError] | None = None
) -> list[ImageRecord]:
    """Read either format; `problems` collects the faults of single rows instead of raising them."""
    return _format_of(path)[0](path, problems)


def write_annotations(path: PathLike, records: list[ImageRecord]) -> None:
    """Write either format."""
    _format_of(path)[1](path, records)
