"""COCO keypoints, both ways, with per-image extensions: frame, session, pixel_size_um, z_um.

Keypoints are pixels (x, y), centres at integers. Boxes, areas and unknown keys are left alone.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipedet.formats.images import PathLike
from pipedet.formats.records import (
    AnnotationError,
    ImageRecord,
    check_count,
    check_file_name,
    check_number,
    check_pixel_size,
    raise_or_keep,
)

CATEGORY = dict(id=1, name='pipette', keypoints=['tip'], skeleton=[])


def read_coco(path: PathLike, problems: list[AnnotationError] | None = None) -> list[ImageRecord]:
    """Read the images in the file's order; those without annotations have no tips.

    The session is an image's `session`, else its `group`, else its `scene`. Of a category with a
    keypoint named `tip` only that one counts, of another every keypoint; v = 0 is no tip. A faulty
    entry raises; with `problems`, a list, it is added there instead and its image left out.
    """
    content = _load(Path(path))
    records = _read_images(path, content['images'], problems)
    tips = {key: [] for key in records}
    for i, annotation in enumerate(content['annotations']):
        where = f'{path}: annotations[{i}]'
        key = annotation.get('image_id')
        if not isinstance(key, (int, str)) or key not in records:
            error = AnnotationError(where, f'no image has id {key!r}; add it or drop this')
            raise_or_keep(error, problems)
        elif records[key] is not None:
            try:
                names = _keypoint_names(content['categories'], annotation.get('category_id'))
                tips[key] += _read_keypoints(annotation.get('keypoints'), names, where)
            except AnnotationError as error:
                error.file_name = records[key].file_name
                raise_or_keep(error, problems)
                records[key] = None
    known = {key: record for key, record in records.items() if record is not None}
    for key, record in known.items():
        record.tips = np.array(tips[key], np.float32).reshape(-1, 2)
    return list(known.values())


def _load(path: Path) -> dict[str, list[dict]]:
    """Parse the file as far as lists of objects; a key given twice hides one of its values."""

    def unique(pairs: list[tuple]) -> dict:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise AnnotationError(path, f'key {twice!r} twice in one object; keep one')
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding='utf-8-sig'), object_pairs_hook=unique)
    except AnnotationError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(path, f'cannot be read as JSON ({error}); export it again') from error
    if not isinstance(content, dict) or 'images' not in content or 'annotations' not in content:
        raise AnnotationError(path, "no 'images' and 'annotations'; export as COCO keypoints")
    content = {key: content.get(key, []) for key in ('images', 'annotations', 'categories')}
    for key, entries in content.items():
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise AnnotationError(path, f'{key!r} is not a list of objects; export it again')
    return content


def _read_images(
    path: PathLike, entries: list[dict], problems: list[AnnotationError] | None
) -> dict[int | str, ImageRecord | None]:
    """Return the records by image id, None for a faulty image."""
    records = {}
    places = {}
    for i, entry in enumerate(entries):
        where = f'{path}: images[{i}]'
        key = entry.get('id')
        if not isinstance(key, (int, str)) or key in records:
            # Not one image's fault: whose are the annotations with this id?
            raise AnnotationError(where, f'id {key!r} is missing or not unique; number the images')
        records[key] = None
        try:
            record = _read_image(entry, where)
            place = (record.file_name, record.frame)
            if place in places:
                reason = f'the same image as {places[place]}; keep one'
                raise AnnotationError(where, reason, record.file_name)
            places[place] = where
            records[key] = record
        except AnnotationError as error:
            raise_or_keep(error, problems)
    return records


def _read_image(entry: dict, where: str) -> ImageRecord:
    name = check_file_name(entry.get('file_name'), where)
    known = {key: value for key, value in entry.items() if value is not None}
    counts = {key: known[key] for key in ('frame', 'width', 'height') if key in known}
    session = next((str(known[k]) for k in ('session', 'group', 'scene') if k in known), None)
    size = known.get('pixel_size_um')
    try:
        return ImageRecord(
            file_name=name,
            session=session,
            pixel_size_um=None if size is None else check_pixel_size(size, where),
            z_um=check_number(known['z_um'], where, 'z_um') if 'z_um' in known else None,
            where=where,
            **{key: check_count(value, where, key) for key, value in counts.items()},
        )
    except AnnotationError as error:
        raise AnnotationError(where, error.reason, name) from None


def _keypoint_names(categories: list[dict], category_id: object) -> list | None:
    """Return the keypoint names of the annotation's category, None if it gives none."""
    names = [entry.get('keypoints') for entry in categories if entry.get('id') == category_id]
    return names[0] if names and isinstance(names[0], list) else None


def _read_keypoints(
    values: object, names: list[str] | None, where: str
) -> list[tuple[float, float]]:
    """Return the labelled (x, y) of one annotation's [x, y, v] * n."""
    count = len(values) if isinstance(values, list) else 0
    if count == 0 or count % 3 or (names is not None and count != 3 * len(names)):
        expected = 'n' if names is None else len(names)
        raise AnnotationError(where, f'{count} keypoint numbers; write [x, y, v] * {expected}')
    tips = []
    for k in range(count // 3):
        x, y, v = values[3 * k : 3 * k + 3]
        if isinstance(v, bool) or v not in (0, 1, 2):
            raise AnnotationError(where, f'visibility is {v!r}; write 0, 1 or 2')
        is_tip = names is None or 'tip' not in names or names[k] == 'tip'
        if v and is_tip:
            tips.append(tuple(check_number(c, where, n) for c, n in ((x, 'x'), (y, 'y'))))
    return tips


def write_coco(path: PathLike, records: Iterable[ImageRecord]) -> None:
    """Write what `read_coco` reads, a tip an annotation; boxes are empty, as other tools' are."""
    images, annotations = [], []
    for image_id, record in enumerate(records, start=1):
        image = dict(id=image_id, file_name=record.file_name)
        for key in ('width', 'height', 'frame', 'session', 'pixel_size_um', 'z_um'):
            if getattr(record, key) is not None:
                image[key] = getattr(record, key)
        images.append(image)
        for tip in np.asarray(record.tips, np.float32):
            x, y = (float(str(value)) for value in tip)  # 10.3, not 10.300000190734863
            annotation = dict(id=len(annotations) + 1, image_id=image_id, category_id=1)
            box = dict(bbox=[x, y, 0, 0], area=0, iscrowd=0)
            annotations.append(annotation | dict(keypoints=[x, y, 2], num_keypoints=1) | box)
    content = dict(images=images, annotations=annotations, categories=[CATEGORY])
    Path(path).write_text(json.dumps(content, indent=1, allow_nan=False) + '\n', encoding='utf-8')
