"""The size of a pixel in micrometres, where OME, ScanImage, ImageJ or Micro-Manager says it."""

import re

from tifffile import TiffPage

from pipedet.formats.headers import imagej_fields, ome_pixels, scanimage_fields
from pipedet.formats.images import PathLike, is_tiff, open_tiff, reading, warn_once

# Outside it a unit was mistaken: metres for micrometres is a known fault of real files.
PIXEL_SIZE_RANGE_UM = (0.01, 20.0)
UM_PER_UNIT = {
    **{'pm': 1e-6, 'Å': 1e-4, 'nm': 1e-3, 'mm': 1e3, 'cm': 1e4, 'm': 1e6},
    **dict.fromkeys(('µm', 'um', 'micron', 'microns', r'\u00b5m'), 1.0),
}
_PER_CENTIMETRE = 3  # of ResolutionUnit
_ROUNDED = 0.05  # by which a size that somebody typed may be off
PixelSize = tuple[float, float]


def is_plausible_pixel_size(size: PixelSize) -> bool:
    """Whether both sides (x, y) lie in `PIXEL_SIZE_RANGE_UM`; NaN does not."""
    low, high = PIXEL_SIZE_RANGE_UM
    return all(low <= side <= high for side in size)


def read_pixel_size_um(path: PathLike) -> PixelSize | None:
    """Read the (x, y) size of a pixel in micrometres, None where the file does not say it credibly.

    An incredible size is logged as a warning, once a file. The resolution tags of a plain TIFF, PNG
    or JPEG are printing sizes and do not count.
    """
    field, size = _stated(path)
    if size is not None and not is_plausible_pixel_size(size):
        warn_once(_doubt(path, field, size))
        return None
    return size


def contradicts(path: PathLike, given: PixelSize) -> bool:
    """Whether a file credibly says another size of a pixel than the one given, by over 5 %."""
    _, size = _stated(path)
    if size is None or not is_plausible_pixel_size(size):
        return False
    return any(abs(said / side - 1) > _ROUNDED for said, side in zip(size, given, strict=True))


def _stated(path: PathLike) -> tuple[str, PixelSize | None]:
    """Return the field that says a file's pixel size, and what it says."""
    with reading(path) as path:
        if is_tiff(path):
            with open_tiff(path) as tiff:
                for field, read in (
                    ('OME PhysicalSizeX and PhysicalSizeY', _from_ome),
                    ('ScanImage imagingFovUm', _from_scanimage),
                    ('ImageJ XResolution and YResolution', _from_imagej),
                    ('Micro-Manager PixelSizeUm', _from_micromanager),
                ):
                    size = read(tiff.pages.first)
                    if size is not None:
                        return field, size
    return '', None


def _doubt(path: PathLike, field: str, size: PixelSize) -> str:
    low, high = PIXEL_SIZE_RANGE_UM
    return (
        f'{path}: no pixel size is taken from {field}: {size[0]:g} x {size[1]:g} um/pixel is not '
        f'within {low} to {high}, a mistaken unit? Give the true one by --pixel-size-um, or as '
        'pixel_size_um in the annotations'
    )


def _from_ome(page: TiffPage) -> PixelSize | None:
    pixels = ome_pixels(page)
    if pixels is None:
        return None
    sides = []
    for axis in 'XY':
        unit = pixels.get(f'PhysicalSize{axis}Unit', 'µm').replace('\u03bc', 'µ')
        value = _number(pixels.get(f'PhysicalSize{axis}'))
        if value is None or unit not in UM_PER_UNIT:  # 'pixel' and 'reference frame' are units too
            return None
        sides.append(value * UM_PER_UNIT[unit])
    return tuple(sides)


def _from_scanimage(page: TiffPage) -> PixelSize | None:
    found = scanimage_fields(page)
    corners = [
        _number(word)
        for word in re.split(r'[\s;,\[\]]+', found.get('hRoiManager.imagingFovUm', ''))
    ]
    corners = [corner for corner in corners if corner is not None]  # x, y of four corners
    scanned = tuple(
        _number(found.get(f'hRoiManager.{side}')) for side in ('pixelsPerLine', 'linesPerFrame')
    )
    # Another size than was scanned means several regions in one page, or a resized copy.
    if len(corners) != 8 or scanned != (page.imagewidth, page.imagelength):
        return None
    xs, ys = corners[0::2], corners[1::2]
    return (max(xs) - min(xs)) / scanned[0], (max(ys) - min(ys)) / scanned[1]


def _from_imagej(page: TiffPage) -> PixelSize | None:
    fields = imagej_fields(page)
    tags = [page.tags.get(name) for name in ('XResolution', 'YResolution')]
    unit = fields.get('unit', '').lower()
    if unit not in UM_PER_UNIT or None in tags or any(0 in tag.value for tag in tags):
        return None
    um = UM_PER_UNIT[unit]
    asked = page.tags.get('ResolutionUnit')
    if unit == 'um' and asked is not None and asked.value == _PER_CENTIMETRE:
        um = UM_PER_UNIT['cm']  # Micro-Manager writes so, and ImageJ reads so
    return tuple(um * tag.value[1] / tag.value[0] for tag in tags)  # pixels per unit, (n, d)


def _from_micromanager(page: TiffPage) -> PixelSize | None:
    tag = page.tags.get('MicroManagerMetadata')
    side = _number(tag.value.get('PixelSizeUm')) if tag and isinstance(tag.value, dict) else None
    return (side, side) if side else None


def _number(text: str | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
