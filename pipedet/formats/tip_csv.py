"""The spreadsheet of tips: columns image, x, y in pixels, a row a tip, both ways.

Optional columns: frame, session, pixel_size_um ('0.5', or '0.5 0.4' for x and y), z_um. A row with
empty x and y is an image without tips. What concerns the image need be said in one of its rows
only. Other columns are left alone. Image sizes are not kept.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipedet.formats.images import PathLike
from pipedet.formats.records import ImageRecord
from pipedet.formats.schema import (
    AboutImage,
    AnnotationError,
    TipRow,
    check,
    plain_name,
    raise_or_keep,
)

COLUMNS = ('image', 'x', 'y')
OPTIONAL = ('frame', 'session', 'pixel_size_um', 'z_um')


def read_tip_csv(
    path: PathLike, problems: list[AnnotationError] | None = None
) -> list[ImageRecord]:
    """Read the images in order of appearance.

    A faulty row raises; with `problems`, a list, it is added there instead and its image left out,
    because an image with a tip missing is worse than no image.
    """
    records: dict[tuple, ImageRecord] = {}
    faulty = set()
    for where, cells in _rows(Path(path)):
        place = (plain_name(cells['image']), None)  # None: all its frames
        try:
            if None in cells or None in cells.values():
                reason = 'not as many cells as columns; is there a decimal comma?'
                raise AnnotationError(where, reason)
            filled = {key: text.strip() for key, text in cells.items() if text.strip()}
            place = (place[0], check(AboutImage, {'frame': filled.get('frame')}, where).frame)
            _add_row(records, check(TipRow, filled, where), where)
        except AnnotationError as error:
            faulty.add(place)
            raise_or_keep(AnnotationError(where, error.reason, place[0]), problems)
    return [
        record
        for (name, frame), record in records.items()
        if not faulty & {(name, frame), (name, None)}
    ]


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield ('file:line', cells by column name)."""
    try:
        with path.open(encoding='utf-8-sig', newline='') as file:  # -sig: Excel writes a mark
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            missing = [name for name in COLUMNS if name not in names]
            if missing:
                reason = f'no column {missing}, only {names}; name them, separated by commas'
                raise AnnotationError(f'{path}:1', reason)
            if len(set(names)) < len(names):
                raise AnnotationError(f'{path}:1', f'a column twice in {names}; rename one')
            for cells in reader:
                yield f'{path}:{reader.line_num}', cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = f'cannot be read as CSV ({error}); save it as UTF-8 text with commas'
        raise AnnotationError(path, reason) from error


def _add_row(records: dict[tuple, ImageRecord], row: TipRow, where: str) -> None:
    if (row.x is None) != (row.y is None):
        raise AnnotationError(where, f'x is {row.x}, y is {row.y}; write both, or none for no tip')
    tips = np.array([] if row.x is None else [row.x, row.y], np.float32).reshape(-1, 2)
    about = row.model_dump(exclude={'image', 'x', 'y'})
    new = ImageRecord(file_name=row.image, tips=tips, where=where, **about)
    record = records.setdefault((row.image, row.frame), new)
    if record is new:
        return
    for key in ('session', 'pixel_size_um', 'z_um'):
        known, said = getattr(record, key), getattr(new, key)
        if None not in (known, said) and known != said:
            raise AnnotationError(where, f'{key} differs from {record.where}; make them equal')
        setattr(record, key, said if known is None else known)
    if not len(record.tips) or not len(new.tips):
        raise AnnotationError(where, f'tip and no tip, with {record.where}; drop one of the rows')
    record.tips = np.concatenate([record.tips, new.tips])


def write_tip_csv(path: PathLike, records: Iterable[ImageRecord]) -> None:
    """Write what `read_tip_csv` reads."""
    with Path(path).open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS + OPTIONAL)
        for record in records:
            size = ' '.join(map(str, record.pixel_size_um or ()))
            known = [record.frame, record.session, size, record.z_um]
            tips = np.asarray(record.tips, np.float32)
            # str of a float32 is the shortest text that reads back the same.
            for x, y in [(str(x), str(y)) for x, y in tips] or [('', '')]:
                writer.writerow([record.file_name, x, y, *known])
