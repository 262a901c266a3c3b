"""What an annotation file says about one image, and the checks which every such file must pass."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from pipedet.formats.scale import PIXEL_SIZE_RANGE_UM, PixelSize, is_plausible_pixel_size


class AnnotationError(ValueError):
    """A fault in an annotation file: where, why, and what to do.

    `file_name` is the image concerned, where that is known.
    """

    def __init__(self, where: str | Path, reason: str, file_name: str | None = None) -> None:
        super().__init__(where, reason, file_name)
        self.where = str(where)
        self.reason = reason
        self.file_name = file_name

    def __str__(self) -> str:
        return f'{self.where}: {self.reason}'


@dataclass(eq=False, kw_only=True)
class ImageRecord:
    """One image and its tips.

    `tips` are (N, 2) float32 pixels (x, y), centres at integers; none means an image without tips.
    `frame` None means that the file names no page, which is enough for single images only.
    """

    file_name: str  # relative to the image folder, with forward slashes
    frame: int | None = None
    tips: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    session: str | None = None
    pixel_size_um: PixelSize | None = None
    z_um: float | None = None
    width: int | None = None
    height: int | None = None
    where: str = ''  # 'file:row' or 'file: images[i]', for error messages


def check_file_name(name: object, where: str) -> str:
    """Return the name with forward slashes; refuse all that can leave the image folder."""
    if not isinstance(name, str) or not name.strip() or '\0' in name:
        raise AnnotationError(where, f'image name is {name!r}; write a path relative to the folder')
    path = PurePosixPath(name.strip().replace('\\', '/'))
    if '://' in name:
        raise AnnotationError(where, f'{name!r} is a URL; copy the image into the folder')
    if path.is_absolute() or re.match('[A-Za-z]:', name.strip()):
        raise AnnotationError(where, f'{name!r} is absolute; write it relative to the folder')
    if '..' in path.parts:
        raise AnnotationError(where, f"{name!r} has '..'; keep the images inside the folder")
    return path.as_posix()


def check_number(value: object, where: str, name: str) -> float:
    """Return a finite number, given as one or as text."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(where, f'{name} is {value!r}; write a finite number')
    return number


def check_count(value: object, where: str, name: str) -> int:
    """Return a whole number, zero or more, given as one or as text."""
    number = check_number(value, where, name)
    if number < 0 or number != int(number):
        raise AnnotationError(where, f'{name} is {value!r}; write a whole number, zero or more')
    return int(number)


def check_pixel_size(value: object, where: str) -> PixelSize:
    """Return (x, y) micrometres, given as one number for both or as a pair."""
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    size = tuple(check_number(side, where, 'pixel_size_um') for side in sides)
    size = size * 2 if len(size) == 1 else size
    if len(size) != 2 or not is_plausible_pixel_size(size):
        low, high = PIXEL_SIZE_RANGE_UM
        reason = f'pixel_size_um is {value!r}; write one or two numbers, {low} to {high} um/pixel'
        raise AnnotationError(where, reason)
    return size


def raise_or_keep(error: AnnotationError, problems: list[AnnotationError] | None) -> None:
    """Raise the fault of a single row, or add it to `problems` where the caller gave a list."""
    if problems is None:
        raise error
    problems.append(error)
