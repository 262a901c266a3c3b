"""Annotations compared with their images' headers: every fault shows before training."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from pipedet.formats.images import ImageReadError, count_frames, read_size
from pipedet.formats.records import ImageRecord
from pipedet.formats.scale import read_pixel_size_um
from pipedet.formats.schema import AnnotationError


def check_records(
    folder: Path, records: Sequence[ImageRecord], problems: list[AnnotationError], *, root: Path
) -> list[ImageRecord]:
    """Return the sound records, the rest being added to `problems`; no pixel is decoded.

    Images lie in `folder`, and links may not lead out of `root`. Where the record has no pixel size
    it gets the image file's.
    """
    count, scale = cache(count_frames), cache(read_pixel_size_um)  # once a stack, not once a page
    sound = []
    for record in records:
        path = folder / record.file_name
        try:
            if not path.resolve().is_relative_to(root.resolve()):
                raise ImageReadError(path, 'a link that leaves the root; copy the image into it')
            _check_frame(record, path, count)
            _check_tips(record, *read_size(path, record.frame or 0))
            record.pixel_size_um = record.pixel_size_um or scale(path)
            sound.append(record)
        except (ImageReadError, AnnotationError) as error:
            reason = f'{record.file_name}: {error.reason}'
            problems.append(AnnotationError(record.where, reason, record.file_name))
    return sound


def _check_frame(record: ImageRecord, path: Path, count: Callable[[Path], int]) -> None:
    pages = count(path)
    if record.frame is None and pages > 1:
        raise ImageReadError(path, f'a stack of {pages} pages; name the frame of each tip')
    if record.frame is not None and record.frame >= pages:
        raise ImageReadError(path, f'no frame {record.frame} among {pages} (counted from 0)')


def _check_tips(record: ImageRecord, height: int, width: int) -> None:
    if (record.width or width, record.height or height) != (width, height):
        reason = f'annotated as {record.width} x {record.height}, but is {width} x {height} pixels'
        raise AnnotationError(record.where, reason + '; annotate the image as it is')
    inside = ((record.tips >= -0.5) & (record.tips <= (width - 0.5, height - 0.5))).all(axis=1)
    if not inside.all():
        tip = record.tips[~inside][0].tolist()
        reason = f'tip {tip} outside {width} x {height} pixels; write (x, y) in pixels of the image'
        raise AnnotationError(record.where, reason)
    if len(np.unique(record.tips, axis=0)) < len(record.tips):
        raise AnnotationError(record.where, 'the same tip twice; keep one')
