"""The list of a TIFF's pages, walked from end to end: cut short, a stack looks like a shorter one.

Each page's directory (IFD) says where the next one is. Writers put directories last, so that of an
interrupted copy the first is there and the others are not, and readers take what they find.
"""

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_CLASSIC, _BIG = 42, 43
_SUBFILE_TYPE, _REDUCED = 254, 1  # the tag, and its bit for a smaller copy of another page
_SHORT = 3  # kind of a value: two bytes


def is_tiff_start(start: bytes) -> bool:
    """Whether the first four bytes of a file are those of a TIFF."""
    return start in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')


@lru_cache(maxsize=8)  # a stack is opened for every frame
def frames_of(path: Path, changed_ns: int, size: int) -> list[int]:
    """Return where the directories of the frames are: of all pages but smaller copies of others.

    Args:
        path: of a TIFF.
        changed_ns: when it was written last; with `size` it says whether it is the same still.
        size: bytes.

    Raises:
        ValueError: the list leads out of the file; the file is cut short.
    """
    found: dict[int, bool] = {}  # place of a page -> whether it is a smaller copy
    with path.open('rb') as file:
        order = {b'II': '<', b'MM': '>'}[file.read(2)]
        big = _read(file, f'{order}H')[0] == _BIG
        # Of a directory: how the number of entries, an entry and the place of the next are written.
        count, entry, place = ('Q', 'HHQQ', 'Q') if big else ('H', 'HHII', 'I')
        file.seek(8 if big else 4)
        at = _read(file, order + place)[0]
        while at and at not in found:  # some damaged lists are circles
            here = at
            try:
                file.seek(at)
                entries = _read(file, order + count)[0]
                block = file.read(entries * struct.calcsize(order + entry))
                at = _read(file, order + place)[0]
            except (struct.error, OSError, OverflowError):
                raise ValueError(f'cut short after {len(found)} pages') from None
            found[here] = _is_reduced(block, order, entry)
    whole = [place for place, reduced in found.items() if not reduced]
    return whole or list(found)  # a copy of nothing is the image itself


def _read(file: BinaryIO, form: str) -> tuple:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _is_reduced(block: bytes, order: str, entry: str) -> bool:
    for tag, kind, _, value in struct.iter_unpack(order + entry, block):
        if tag == _SUBFILE_TYPE:
            # A value shorter than its field stands at the field's beginning.
            field = struct.pack(order + entry[-1], value)
            own = struct.unpack_from(order + ('H' if kind == _SHORT else 'I'), field)[0]
            return bool(own & _REDUCED)
    return False
