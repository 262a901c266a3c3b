"""Which channel each page of a stack shows, where OME, ScanImage or ImageJ says it.

Microscopes write the channels of a moment as pages one after the other, and pipettes show in one
of them. Channels count from 1, as these programs show them.
"""

import re
from xml.etree.ElementTree import Element  # nosec B405

from tifffile import TiffPage

from pipedet.formats.headers import imagej_fields, ome_pixels, scanimage_fields, whole_number
from pipedet.formats.images import (
    ImageReadError,
    PathLike,
    count_frames,
    is_tiff,
    open_tiff,
    reading,
)


def read_channels(path: PathLike) -> list[int | None] | None:
    """Return the channel of each frame, None where the file tells of no more than one.

    A single frame that nothing is said of, as a label image beside a recording, is of channel None.
    """
    count = count_frames(path)
    with reading(path) as path:
        if count == 1 or not is_tiff(path):
            return None
        with open_tiff(path) as tiff:
            for read in (_from_ome, _from_scanimage, _from_imagej):
                channels = read(tiff.pages.first, path.name, count)
                if len(set(channels) - {None}) > 1:
                    return channels
    return None


def frames_of_channel(path: PathLike, channel: int) -> tuple[list[int], int | None]:
    """Find a channel, among the pages of a stack or in each of them.

    Returns:
        The frames that show it, and the `channel` that `read_image` has to pick in each of them,
        None where frames are of one channel each.

    Raises:
        ImageReadError: the frames are of other channels.
    """
    channels = read_channels(path)
    if channels is None:
        return list(range(count_frames(path))), channel
    frames = [frame for frame, own in enumerate(channels) if own == channel]
    if not frames:
        known = ', '.join(map(str, sorted(set(channels) - {None})))
        raise ImageReadError(path, f'no channel {channel}, only {known}; choose one of these')
    return frames, None


def _from_ome(page: TiffPage, name: str, count: int) -> list[int | None]:
    pixels = ome_pixels(page)
    channels = [None] * count
    if pixels is None:
        return channels
    # The axes along which planes follow each other, the quickest first.
    axes = pixels.get('DimensionOrder', 'XYCZT')[2:]
    sizes = {axis: whole_number(pixels.get(f'Size{axis}'), 1) for axis in 'CZT'}
    sizes['C'] = len(pixels.findall('{*}Channel')) or sizes['C']  # colours share one plane
    if sorted(axes) != sorted(sizes) or 0 in sizes.values():
        return channels
    for block in _own_blocks(pixels, name):
        plane, step = 0, 1
        for axis in axes:
            plane += step * whole_number(block.get(f'First{axis}'), 0)
            step *= sizes[axis]
        start = whole_number(block.get('IFD'), 0)
        some = whole_number(block.get('PlaneCount'), count if block.get('IFD') is None else 1)
        for k in range(min(some, count - start)):
            channels[start + k] = 1 + _place_along('C', plane + k, axes, sizes)
    return channels


def _own_blocks(pixels: Element, name: str) -> list[Element]:
    """Return the runs of pages that lie in this file, of a recording that may have several."""
    blocks = pixels.findall('{*}TiffData')
    files = [block.find('{*}UUID') for block in blocks]
    names = [name if file is None else file.get('FileName', name) for file in files]
    if len(set(names)) == 1:  # one file, which may have been given another name since
        return blocks
    return [block for block, own in zip(blocks, names, strict=True) if own == name]


def _place_along(axis: str, plane: int, axes: str, sizes: dict[str, int]) -> int:
    """Return where along an axis a plane lies, counted from 0."""
    for before in axes[: axes.index(axis)]:
        plane //= sizes[before]
    return plane % sizes[axis]


def _from_scanimage(page: TiffPage, _: str, count: int) -> list[int | None]:
    # Of channels 1 and 3, '[1;3]', every other page is of the third.
    saved = re.findall(r'\d+', scanimage_fields(page).get('hChannels.channelSave', ''))
    return [int(saved[i % len(saved)]) if saved else None for i in range(count)]


def _from_imagej(page: TiffPage, _: str, count: int) -> list[int | None]:
    channels = whole_number(imagej_fields(page).get('channels'), 1)
    return [1 + i % max(1, channels) for i in range(count)]
