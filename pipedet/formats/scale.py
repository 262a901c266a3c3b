"""The size of a pixel in micrometres, where a TIFF says it: OME-XML, ScanImage or ImageJ."""

import logging
import re
from functools import cache
from xml.etree import ElementTree  # nosec B405

from tifffile import TiffPage

from pipedet.formats.images import PathLike, is_tiff, open_tiff, reading

# Outside it a unit was mistaken: metres for micrometres is a known fault of real files.
PIXEL_SIZE_RANGE_UM = (0.01, 20.0)
UM_PER_UNIT = {'pm': 1e-6, 'nm': 1e-3, 'µm': 1.0, 'um': 1.0, 'mm': 1e3, 'cm': 1e4, 'm': 1e6}
IMAGEJ_MICRONS = ('micron', 'microns', 'um', 'µm', r'\u00B5m')
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
    with reading(path) as path:
        if not is_tiff(path):
            return None
        with open_tiff(path) as tiff:
            page = tiff.pages.first
            for field, read in (
                ('OME PhysicalSizeX and PhysicalSizeY', _from_ome),
                ('ScanImage imagingFovUm', _from_scanimage),
                ('ImageJ XResolution and YResolution', _from_imagej),
            ):
                size = read(page)
                if size is not None and not is_plausible_pixel_size(size):
                    _warn_once(_doubt(path, field, size))
                    return None
                if size is not None:
                    return size
    return None


def _doubt(path: PathLike, field: str, size: PixelSize) -> str:
    low, high = PIXEL_SIZE_RANGE_UM
    return (
        f'{path}: no pixel size is taken from {field}: {size[0]:g} x {size[1]:g} um/pixel is not '
        f'within {low} to {high}, a mistaken unit? Give the true one by --pixel-size-um, or as '
        'pixel_size_um in the annotations'
    )


@cache  # several parts of one command may read the same file
def _warn_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)


def _from_ome(page: TiffPage) -> PixelSize | None:
    # No OME writer declares entities; only a trap does.
    if '<OME' not in page.description or '<!' in page.description.replace('<!--', ''):
        return None
    try:
        root = ElementTree.fromstring(page.description)  # nosec B314
    except ElementTree.ParseError:
        return None
    pixels = root.find('.//{*}Pixels')
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
    tag = page.tags.get('Software')
    text = tag.value if tag is not None and isinstance(tag.value, str) else ''
    found = dict(re.findall(r'^SI\.hRoiManager\.(\w+) = (.+?)\s*$', text, re.MULTILINE))
    corners = [_number(word) for word in re.split(r'[\s;,\[\]]+', found.get('imagingFovUm', ''))]
    corners = [corner for corner in corners if corner is not None]  # x, y of four corners
    scanned = _number(found.get('pixelsPerLine')), _number(found.get('linesPerFrame'))
    # Another size than was scanned means several regions in one page, or a resized copy.
    if len(corners) != 8 or scanned != (page.imagewidth, page.imagelength):
        return None
    xs, ys = corners[0::2], corners[1::2]
    return (max(xs) - min(xs)) / scanned[0], (max(ys) - min(ys)) / scanned[1]


def _from_imagej(page: TiffPage) -> PixelSize | None:
    if not page.description.startswith('ImageJ='):
        return None
    fields = dict(line.partition('=')[::2] for line in page.description.splitlines())
    tags = [page.tags.get(name) for name in ('XResolution', 'YResolution')]
    if fields.get('unit') not in IMAGEJ_MICRONS or None in tags:
        return None
    if any(0 in tag.value for tag in tags):
        return None
    return tuple(tag.value[1] / tag.value[0] for tag in tags)  # the tag is pixels per unit, (n, d)


def _number(text: str | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
