"""What microscope programs wrote of a recording into the first page of a TIFF."""

import re
from xml.etree import ElementTree  # nosec B405

from tifffile import TiffPage


def ome_pixels(page: TiffPage) -> ElementTree.Element | None:
    """Return OME's element `Pixels`, which says what the pages of the file are."""
    # No OME writer declares entities; only a trap does.
    if '<OME' not in page.description or '<!' in page.description.replace('<!--', ''):
        return None
    try:
        root = ElementTree.fromstring(page.description)  # nosec B314
    except ElementTree.ParseError:
        return None
    return root.find('.//{*}Pixels')


def imagej_fields(page: TiffPage) -> dict[str, str]:
    """Return what ImageJ says, by name; nothing where it is none of its files."""
    if not page.description.startswith('ImageJ='):
        return {}
    return dict(line.partition('=')[::2] for line in page.description.splitlines())


def scanimage_fields(page: TiffPage) -> dict[str, str]:
    """Return what ScanImage says, by name without `SI.`; nothing where it is none of its files."""
    tag = page.tags.get('Software')
    text = tag.value if tag is not None and isinstance(tag.value, str) else ''
    text += '\n' + page.description  # of older ones
    return dict(re.findall(r'^(?:scanimage\.)?SI\.([\w.]+) = (.+?)\s*$', text, re.MULTILINE))


def whole_number(text: str | None, default: int) -> int:
    """Return the number that a text is, or the default where there is none."""
    return int(text) if text and text.isdecimal() else default
