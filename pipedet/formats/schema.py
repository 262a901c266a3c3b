"""What a file of data has to hold: one strict JSON reader, and pydantic models of every entry.

Annotations come from other people's tools. So entries are checked one by one, each fault is one
`AnnotationError` that says where it is, what was found and what to write, and unknown keys pass.
"""

import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

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


def raise_or_keep(error: AnnotationError, problems: list[AnnotationError] | None) -> None:
    """Raise the fault of a single row, or add it to `problems` where the caller gave a list."""
    if problems is None:
        raise error
    problems.append(error)


def _number(value: object) -> float:
    """A finite number, given as one or as text."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError('write a finite number')
    return number


def _count(value: object) -> int:
    number = _number(value)
    if number < 0 or number != int(number):
        raise ValueError('write a whole number, zero or more')
    return int(number)


def _whole(value: object) -> object:
    """A whole number that was written as a float, 2.0, as the integer it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _pixel_size(value: object) -> PixelSize:
    """(x, y) micrometres, given as one number for both, as a pair, or as text of either."""
    sides = value.split() if isinstance(value, str) else value
    sides = sides.tolist() if isinstance(sides, np.ndarray) else sides
    sides = list(sides) if isinstance(sides, (list, tuple)) else [sides]
    size = tuple(_number(side) for side in sides)
    size = size * 2 if len(size) == 1 else size
    if len(size) != 2 or not is_plausible_pixel_size(size):
        low, high = PIXEL_SIZE_RANGE_UM
        raise ValueError(f'write one or two numbers, {low} to {high} um/pixel')
    return size


def _file_name(value: object) -> str:
    """A path with forward slashes that cannot leave the image folder."""
    if not isinstance(value, str) or not value.strip() or '\0' in value:
        raise ValueError('write a path relative to the image folder')
    path = PurePosixPath(value.strip().replace('\\', '/'))
    if '://' in value:
        raise ValueError('a URL: copy the image into the folder')
    if path.is_absolute() or re.match('[A-Za-z]:', value.strip()):
        raise ValueError('an absolute path: write it relative to the image folder')
    if '..' in path.parts:
        raise ValueError("has '..': keep the images inside the folder")
    return path.as_posix()


def plain_name(value: object) -> str | None:
    """Return a file name as files are told apart by, None of what is none."""
    try:
        return _file_name(value)
    except ValueError:
        return None


Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, BeforeValidator(_count)]
PixelSizeUm = Annotated[PixelSize, BeforeValidator(_pixel_size)]
FileName = Annotated[str, BeforeValidator(_file_name)]
Name = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class Entry(BaseModel):
    """The base of all: text is text and numbers are numbers, keys beyond ours are let be."""

    model_config = ConfigDict(extra='ignore', frozen=True)


class AboutImage(Entry):
    """What either annotation format can say about an image."""

    frame: Count | None = None
    session: Name | None = None
    pixel_size_um: PixelSizeUm | None = None
    z_um: Number | None = None


class TipRow(AboutImage):
    """One row of a tip table; x and y both absent is an image without tips."""

    image: FileName
    x: Number | None = None
    y: Number | None = None


class CocoImage(AboutImage):
    """One of a COCO file's `images`; its session may be called `group` or `scene` as well."""

    file_name: FileName
    width: Count | None = None
    height: Count | None = None
    group: Name | None = None
    scene: Name | None = None


class CocoAnnotation(Entry):
    """One of a COCO file's `annotations`."""

    keypoints: list[Any]
    category_id: Any = None


class CocoKeypoint(Entry):
    """One (x, y, v) of an annotation."""

    x: Number
    y: Number
    v: Annotated[int, Field(ge=0, le=2, strict=True), BeforeValidator(_whole)]


class CocoFile(Entry):
    """The outermost level of a COCO file."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]] = []


EntryT = TypeVar('EntryT', bound=Entry)


def check(kind: type[EntryT], values: Any, where: str | Path) -> EntryT:
    """Return the values as an entry of this kind.

    Raises:
        AnnotationError: the first fault: 'WHERE: KEY is VALUE; WHAT TO DO'.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = '.'.join(map(str, fault['loc'])) or 'it'
        cause = fault.get('ctx', {}).get('error')
        if fault['type'] == 'missing':
            reason = f'no {key!r}; add it'
        else:
            found = repr(fault['input'])
            found = found if len(found) < 80 else found[:77] + '...'
            reason = f'{key} is {found}; {cause or fault["msg"]}'
        raise AnnotationError(where, reason) from None


def check_pixel_size(value: object, where: str) -> PixelSize:
    """Return (x, y) micrometres, given as one number for both or as a pair."""
    return check(AboutImage, dict(pixel_size_um=value), where).pixel_size_um


def read_json(path: Path) -> Any:
    """Parse a JSON file; NaN, which exporters write, is left to the check of its entry.

    Raises:
        AnnotationError: it is no JSON, or has a key twice in one object and so would lose a value.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise AnnotationError(path, f'key {twice!r} twice in one object; keep one')
        return dict(pairs)

    try:
        return json.loads(path.read_text(encoding='utf-8-sig'), object_pairs_hook=unique)
    except AnnotationError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(path, f'cannot be read as JSON ({error}); export it again') from error
