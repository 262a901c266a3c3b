"""Microscope images as (H, W) arrays in their own dtype, the header judged before any decoding.

PNG, JPEG and BMP go through OpenCV, TIFF (OME, ImageJ, ScanImage) through tifffile. Every file that
cannot be read, for whatever reason, is one `ImageReadError`.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')
MAX_PIXELS = 4096 * 4096  # of one frame
MAX_BYTES = 64 * 2**20  # of a PNG, JPEG or BMP, which is read whole; stacks are read page by page
DTYPES = ('uint8', 'uint16', 'int16', 'int32', 'float32', 'float64')
TIFF_MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
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


def read_image(path: PathLike, frame: int | None = None) -> np.ndarray:
    """Read one frame, (H, W), in the file's own dtype.

    Equal colour channels collapse to one without loss. Colours become their luma, in float32; an
    alpha channel is left out. `frame` counts TIFF pages from 0, needed where there are several.
    """
    with reading(path) as path:
        image = _read_tiff(path, frame) if is_tiff(path) else _read_raster(path, frame)
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
    """Count a TIFF's pages from its header; every other image is one frame."""
    with reading(path) as path:
        if not is_tiff(path):
            return 1
        with open_tiff(path) as tiff:
            return len(tiff.pages)


@contextmanager
def reading(path: PathLike) -> Iterator[Path]:
    """Check what can be checked from outside, and give every decoder's failure one type."""
    path = Path(path)
    try:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise ImageReadError(path, f'not an image suffix; use one of {IMAGE_SUFFIXES}')
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
        if file.read(4) in TIFF_MAGIC:
            return True
    if path.stat().st_size > MAX_BYTES:
        raise ImageReadError(path, f'over {MAX_BYTES >> 20} MiB, the limit; crop it or use TIFF')
    return False


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


def _read_raster(path: Path, frame: int | None) -> np.ndarray:
    if frame not in (None, 0):
        raise ImageReadError(path, f'frame {frame} asked of a single image; leave frame out')
    data = path.read_bytes()  # not imread, which fails on non-ASCII paths on Windows
    _raster_size(path, io.BytesIO(data), check_data=True)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ImageReadError(path, 'OpenCV cannot decode it; save it again')
    return image if image.ndim == 2 else _to_gray(image[..., 2::-1])  # BGR(A) -> RGB


def open_tiff(path: Path) -> TiffFile:
    """Open a TIFF that has a page."""
    # is_ome=False: OME-XML may name further files, which tifffile would open wherever they are.
    tiff = TiffFile(path, is_ome=False)
    if not len(tiff.pages):
        tiff.close()
        raise ImageReadError(path, 'damaged: a TIFF without a page; copy or save it again')
    return tiff


def _page(path: Path, tiff: TiffFile, frame: int | None) -> TiffPage:
    count = len(tiff.pages)
    if frame is None and count > 1:
        raise ImageReadError(path, f'a stack of {count} pages; pass frame=0 to frame={count - 1}')
    if not 0 <= (frame or 0) < count:
        raise ImageReadError(path, f'no frame {frame} among {count} pages (counted from 0)')
    page = tiff.pages[frame or 0].aspage()
    if count == 1 and tiff.series[0].size != page.size:  # ImageJ does so beyond 4 GB
        raise ImageReadError(path, 'a stack whose pages are not indexed; save it as BigTIFF')
    return page


def _page_size(path: Path, page: TiffPage) -> tuple[int, int]:
    if page.imagedepth != 1 or page.samplesperpixel > 4:
        raise ImageReadError(path, f'page of shape {page.shape}; save one plane a page')
    return _check_size(path, page.imagelength, page.imagewidth)


def _read_tiff(path: Path, frame: int | None) -> np.ndarray:
    with open_tiff(path) as tiff:
        page = _page(path, tiff, frame)
        _page_size(path, page)
        # tifffile fills strips that are missing or cut short with zeros.
        strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if not strips or any(n == 0 or at + n > tiff.filehandle.size for at, n in strips):
            raise ImageReadError(path, 'cut short: pixel data are missing; copy it again')
        image = page.asarray(maxworkers=1)
    image = image.astype(image.dtype.newbyteorder('='), copy=False)
    channels = page.samplesperpixel
    if channels == 1:
        return image.reshape(page.imagelength, page.imagewidth)
    if page.axes.startswith('S'):
        image = np.moveaxis(image, 0, -1)
    image = image.reshape(page.imagelength, page.imagewidth, channels)
    if page.photometric == PHOTOMETRIC.RGB:
        return _to_gray(image[..., :3])
    if page.extrasamples[-1:] in ((1,), (2,)):  # associated or unassociated alpha
        image = image[..., :-1]
    if image.shape[-1] != 3 and (image != image[..., :1]).any():
        raise ImageReadError(path, f'{channels} different channels; save the one with the pipette')
    return _to_gray(image)


def _to_gray(image: np.ndarray) -> np.ndarray:
    """(H, W, C) of equal channels, or RGB -> (H, W)."""
    if (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., 0])
    return image.astype(np.float32) @ LUMA
