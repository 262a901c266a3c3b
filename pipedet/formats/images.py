"""Microscope images as (H, W) arrays in their own dtype, the header judged before any decoding.

PNG, JPEG and BMP go through OpenCV, TIFF (OME, ImageJ, Micro-Manager, ScanImage) through tifffile.
Every file that cannot be read, for whatever reason, is one `ImageReadError`.
"""

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from pipedet.formats.directories import frames_of, is_tiff_start

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')
MAX_PIXELS = 4096 * 4096  # of one frame
MAX_BYTES = 64 * 2**20  # of a PNG, JPEG or BMP, which is read whole; stacks are read page by page
DTYPES = ('uint8', 'uint16', 'int16', 'int32', 'float32', 'float64')
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
PathLike = str | os.PathLike


class ImageReadError(ValueError):
    """An image file that cannot be read: which, why, and what to do."""

    def __init__(self, path: PathLike, reason: str) -> None:
        super().__init__(path, reason)  # both in args, so that it can cross a worker's pipe
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f'{self.path}: {self.reason}'


def read_image(path: PathLike, frame: int | None = None, channel: int | None = None) -> np.ndarray:
    """Read one frame, (H, W), in the file's own dtype.

    `frame` counts the frames of a TIFF from 0, needed where there are several. `channel` counts
    from 1 those that one frame holds, of colours red, green and blue. Without it, equal ones
    collapse to one without loss, and colours become their luma, in float32, with a warning; an
    alpha channel is left out.
    """
    with reading(path) as path:
        read = _read_tiff if is_tiff(path) else _read_raster
        image = read(path, frame, channel)
        if image.dtype.name not in DTYPES:
            raise ImageReadError(path, f'pixels are {image.dtype}; save as one of {DTYPES}')
        if not np.isfinite(image).all():
            raise ImageReadError(path, 'holds NaN or infinite pixels; replace them and save again')
        return image


def read_size(path: PathLike, frame: int = 0) -> tuple[int, int]:
    """Read (H, W) from the header."""
    with reading(path) as path:
        if not is_tiff(path):
            with path.open('rb') as file:
                return _raster_size(path, file)
        with open_tiff(path) as tiff:
            return _page_size(path, _page(path, tiff, frame))


def count_frames(path: PathLike) -> int:
    """Count a TIFF's pages, without thumbnails and the like; every other image is one frame."""
    with reading(path) as path:
        return len(_frames(path)) if is_tiff(path) else 1


@contextmanager
def reading(path: PathLike) -> Iterator[Path]:
    """Check what can be checked from outside, and give every decoder's failure one type."""
    path = Path(path)
    try:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise ImageReadError(
                path, f'no image suffix ({", ".join(IMAGE_SUFFIXES)}); export it as TIFF'
            )
        if not path.is_file():
            raise ImageReadError(path, 'no such file; check the path')
        if path.stat().st_size == 0:
            raise ImageReadError(path, 'empty file (0 bytes); copy it again')
        yield path
    except ImageReadError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageReadError(path, f'{error}; crop it first') from error
    except Exception as error:  # on damaged files the decoders raise a dozen unrelated types
        cause = f'{type(error).__name__}: {error}'
        reason = f'damaged, or not an image ({cause}); copy or save it again'
        raise ImageReadError(path, reason) from error


def is_tiff(path: Path) -> bool:
    """Whether it is a TIFF by its first bytes; other files must be small enough to read whole."""
    with path.open('rb') as file:
        if is_tiff_start(file.read(4)):
            return True
    if path.stat().st_size > MAX_BYTES:
        raise ImageReadError(path, f'over {MAX_BYTES >> 20} MiB, the limit; crop it or use TIFF')
    return False


@lru_cache(maxsize=1024)  # of a stack every frame has the same to say
def warn_once(message: str) -> None:
    """Log a warning that was not given yet."""
    logging.getLogger(__name__).warning(message)


def _check_size(path: Path, height: int, width: int) -> tuple[int, int]:
    if not 0 < height * width <= MAX_PIXELS:
        raise ImageReadError(path, f'{width} x {height} pixels, limit {MAX_PIXELS}; crop it first')
    return height, width


def _raster_size(path: Path, file: BinaryIO, *, check_data: bool = False) -> tuple[int, int]:
    """(H, W) of a PNG, JPEG or BMP; `check_data` finds a file cut short, as OpenCV does not."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # our own limit is lower
        with Image.open(file, formats=('PNG', 'JPEG', 'BMP')) as header:
            size = _check_size(path, header.height, header.width)
            if check_data:
                # PNG chunks carry checksums; the other two must be decoded to the end.
                header.verify() if header.format == 'PNG' else header.load()
    return size


def _read_raster(path: Path, frame: int | None, channel: int | None) -> np.ndarray:
    if frame not in (None, 0):
        raise ImageReadError(path, f'frame {frame} asked of a single image; leave frame out')
    data = path.read_bytes()  # not imread, which fails on non-ASCII paths on Windows
    _raster_size(path, io.BytesIO(data), check_data=True)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ImageReadError(path, 'OpenCV cannot decode it; save it again')
    if image.ndim == 2:
        return _only(path, image, channel)
    return _one_of(path, image[..., 2::-1], channel)  # BGR(A) -> RGB


def open_tiff(path: Path) -> TiffFile:
    """Open a TIFF that has a frame."""
    if not _frames(path):
        raise ImageReadError(path, 'damaged: a TIFF without a page; copy or save it again')
    # is_ome=False: OME-XML may name further files, which tifffile would open wherever they are.
    return TiffFile(path, is_ome=False)


def _frames(path: Path) -> list[int]:
    """Return where the directories of the frames are."""
    about = path.stat()
    return frames_of(path, about.st_mtime_ns, about.st_size)


def _page(path: Path, tiff: TiffFile, frame: int | None) -> TiffPage:
    frames = _frames(path)
    count = len(frames)
    if frame is None and count > 1:
        raise ImageReadError(path, f'a stack of {count} pages; pass frame=0 to frame={count - 1}')
    if not 0 <= (frame or 0) < count:
        raise ImageReadError(path, f'no frame {frame} among {count} pages (counted from 0)')
    # Not by tifffile's own list, which for some writers is a guess.
    tiff.filehandle.seek(frames[frame or 0])
    page = TiffPage(tiff, index=frame or 0)
    # Beyond 4 GB ImageJ writes one page and says how many follow.
    if count == len(tiff.pages) == 1 and tiff.series[0].size != page.size:
        raise ImageReadError(path, 'a stack whose pages are not indexed; save it as BigTIFF')
    return page


def _page_size(path: Path, page: TiffPage) -> tuple[int, int]:
    if page.imagedepth != 1 or page.samplesperpixel > 4:
        raise ImageReadError(path, f'page of shape {page.shape}; save one plane a page')
    return _check_size(path, page.imagelength, page.imagewidth)


def _read_tiff(path: Path, frame: int | None, channel: int | None) -> np.ndarray:
    with open_tiff(path) as tiff:
        page = _page(path, tiff, frame)
        _page_size(path, page)
        # tifffile fills strips that are missing or cut short with zeros.
        strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if not strips or any(n == 0 or at + n > tiff.filehandle.size for at, n in strips):
            raise ImageReadError(path, 'cut short: pixel data are missing; copy it again')
        image = page.asarray(maxworkers=1)
        image = image.astype(image.dtype.newbyteorder('='), copy=False)
        return _plane(path, page, image, channel)


def _plane(path: Path, page: TiffPage, image: np.ndarray, channel: int | None) -> np.ndarray:
    """Return the one plane (H, W) of what a page holds."""
    channels = page.samplesperpixel
    if channels == 1:
        image = _as_seen(path, page, image.reshape(page.imagelength, page.imagewidth))
        return _only(path, image, channel)
    if page.axes.startswith('S'):
        image = np.moveaxis(image, 0, -1)
    image = image.reshape(page.imagelength, page.imagewidth, channels)
    if page.photometric == PHOTOMETRIC.RGB:
        return _one_of(path, image[..., :3], channel)
    if page.extrasamples[-1:] in ((1,), (2,)):  # associated or unassociated alpha
        image = image[..., :-1]
    return _one_of(path, image, channel)


def _as_seen(path: Path, page: TiffPage, image: np.ndarray) -> np.ndarray:
    """Return an image (H, W) with more for brighter.

    Not of ImageJ's files: there it is a matter of display, and the pixels are what was measured.
    """
    if page.parent.pages.first.description.startswith('ImageJ='):  # later pages do not say it
        return image
    if page.photometric == PHOTOMETRIC.MINISWHITE and image.dtype.kind in 'iuf':
        if image.dtype.kind == 'u':
            return ((1 << page.bitspersample) - 1 - image).astype(image.dtype)
        return -image if image.dtype.kind == 'f' else ~image
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        red, green, blue = page.colormap
        if (red == green).all() and (green == blue).all():
            return red[image]
        warn_once(
            f'{path}: its palette of colours is taken for how it was shown, and the numbers below '
            'for what was measured; where they are not, save it in grey'
        )
    return image


def _only(path: Path, image: np.ndarray, channel: int | None) -> np.ndarray:
    """(H, W) of one channel, unless another is asked for."""
    return image if channel is None else _one_of(path, image[..., None], channel)


def _one_of(path: Path, image: np.ndarray, channel: int | None) -> np.ndarray:
    """(H, W, C) -> (H, W): the channel asked for, equal ones, or the luma of RGB."""
    count = image.shape[-1]
    if channel is not None:
        if not 1 <= channel <= count:
            raise ImageReadError(path, f'no channel {channel} in a frame of {count}')
        return np.ascontiguousarray(image[..., channel - 1])
    if (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., 0])
    if count != 3:
        raise ImageReadError(
            path, f'{count} different channels; choose the one with the pipette (--channel)'
        )
    warn_once(
        f'{path}: its colours are mixed to one brightness; where they are channels, choose the one '
        'that shows the pipettes (--channel 1 is red, 2 green, 3 blue)'
    )
    return image.astype(np.float32) @ LUMA
