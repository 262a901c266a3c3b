"""COCO keypoints, both ways, with per-image extensions: frame, session, pixel_size_um, z_um.

Keypoints are pixels (x, y), centres at integers. Boxes, areas and unknown keys are left alone.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipedet.formats.images import PathLike
from pipedet.formats.records import ImageRecord
from pipedet.formats.schema import (
    AnnotationError,
    CocoAnnotation,
    CocoFile,
    CocoImage,
    CocoKeypoint,
    check,
    plain_name,
    raise_or_keep,
    read_json,
)

CATEGORY = dict(id=1, name='pipette', keypoints=['tip'], skeleton=[])


def read_coco(path: PathLike, problems: list[AnnotationError] | None = None) -> list[ImageRecord]:
    """Read the images in the file's order; those without annotations have no tips.

    The session is an image's `session`, else its `group`, else its `scene`. Of a category with a
    keypoint named `tip` only that one counts, of another every keypoint; v = 0 is no tip. Objects
    of a category without keypoints, as somata in boxes, do not count. A faulty entry raises; with
    `problems`, a list, it is added there instead and its image left out.
    """
    content = check(CocoFile, read_json(Path(path)), path)
    records = _read_images(path, content.images, problems)
    tips = {key: [] for key in records}
    # Without a keypoint in the whole file its boxes may be the pipettes: then each is a fault.
    has_keypoints = any(e.get('keypoints') for e in content.categories + content.annotations)
    for i, entry in enumerate(content.annotations):
        where = f'{path}: annotations[{i}]'
        key = entry.get('image_id')
        if not isinstance(key, (int, str)) or key not in records:
            error = AnnotationError(where, f'no image has id {key!r}; add it or drop this')
            raise_or_keep(error, problems)
        elif has_keypoints and _is_other_object(entry, content):
            continue
        elif records[key] is not None:
            try:
                annotation = check(CocoAnnotation, entry, where)
                names = _keypoint_names(content.categories, annotation.category_id)
                tips[key] += _read_keypoints(annotation.keypoints, names, where)
            except AnnotationError as error:
                error.file_name = records[key].file_name
                raise_or_keep(error, problems)
                records[key] = None
    known = {key: record for key, record in records.items() if record is not None}
    for key, record in known.items():
        record.tips = np.array(tips[key], np.float32).reshape(-1, 2)
    return list(known.values())


def _read_images(
    path: PathLike, entries: list[dict[str, Any]], problems: list[AnnotationError] | None
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
                raise AnnotationError(where, f'the same image as {places[place]}; keep one')
            places[place] = where
            records[key] = record
        except AnnotationError as error:
            # Named even so, lest the image be taken for one that no annotation mentions.
            error.file_name = plain_name(entry.get('file_name'))
            raise_or_keep(error, problems)
    return records


def _read_image(entry: dict[str, Any], where: str) -> ImageRecord:
    image = check(CocoImage, entry, where)
    sessions = (image.session, image.group, image.scene)
    return ImageRecord(
        **image.model_dump(exclude={'session', 'group', 'scene'}),
        session=next((name for name in sessions if name is not None), None),
        where=where,
    )


def _is_other_object(entry: dict[str, Any], content: CocoFile) -> bool:
    """Whether no annotation of this one's category has keypoints, and it declares none."""
    kind = entry.get('category_id')
    own = [each for each in content.categories if each.get('id') == kind]
    alike = [each for each in content.annotations if each.get('category_id') == kind]
    return bool(own) and not any(each.get('keypoints') for each in own + alike)


def _keypoint_names(categories: list[dict], category_id: object) -> list | None:
    """Return the keypoint names of the annotation's category, None if it gives none."""
    names = [entry.get('keypoints') for entry in categories if entry.get('id') == category_id]
    return names[0] if names and isinstance(names[0], list) else None


def _read_keypoints(
    values: list[Any], names: list[str] | None, where: str
) -> list[tuple[float, float]]:
    """Return the labelled (x, y) of one annotation's [x, y, v] * n."""
    count = len(values)
    if count == 0 or count % 3 or (names is not None and count != 3 * len(names)):
        expected = 'n' if names is None else len(names)
        raise AnnotationError(where, f'{count} keypoint numbers; write [x, y, v] * {expected}')
    tips = []
    for k in range(count // 3):
        x, y, v = values[3 * k : 3 * k + 3]
        point = check(CocoKeypoint, dict(x=x, y=y, v=v), where)
        is_tip = names is None or 'tip' not in names or names[k] == 'tip'
        if point.v and is_tip:
            tips.append((point.x, point.y))
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
