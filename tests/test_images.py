"""Images: levels survive, everything unreadable is one error, scales are read or absent."""

import pickle
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from pipedet.formats import (
    ImageReadError,
    count_frames,
    read_image,
    read_pixel_size_um,
    read_size,
)

RAMP = np.arange(4096, dtype=np.uint16).reshape(32, 128)


def write_picture(path, image):
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
    return path


@pytest.fixture
def png(tmp_path):
    noise = np.random.default_rng(0).integers(0, 4096, (48, 64), dtype=np.uint16)
    return write_picture(tmp_path / 'noise.png', noise)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_twelve_bits_keep_all_levels(tmp_path, suffix):
    path = tmp_path / f'rämp{suffix}'
    if suffix == '.png':
        write_picture(path, RAMP)
    else:
        tifffile.imwrite(path, RAMP)
    image = read_image(path)
    assert image.dtype == np.uint16 and len(np.unique(image)) == 4096
    assert np.array_equal(image, RAMP)
    assert read_size(path) == (32, 128) and count_frames(path) == 1


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'int32', 'float32', 'float64'])
@pytest.mark.parametrize('byteorder', '<>')
def test_tiff_keeps_its_dtype(tmp_path, dtype, byteorder):
    low = 0 if dtype.startswith('u') else -100
    values = np.arange(low, low + 12 * 16).reshape(12, 16).astype(dtype)
    tifffile.imwrite(tmp_path / 'a.tif', values, byteorder=byteorder)
    image = read_image(tmp_path / 'a.tif')
    assert image.dtype == np.dtype(dtype) and image.dtype.isnative
    assert np.array_equal(image, values)


def test_compressed_tiff_and_bigtiff(tmp_path):
    tifffile.imwrite(tmp_path / 'a.tif', RAMP, compression='zlib', rowsperstrip=8, bigtiff=True)
    assert np.array_equal(read_image(tmp_path / 'a.tif'), RAMP)


def test_unsupported_dtype_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / 'a.tif', RAMP.astype(np.complex64))
    with pytest.raises(ImageReadError, match='complex64'):
        read_image(tmp_path / 'a.tif')


@pytest.mark.parametrize('channels', [3, 4])
def test_equal_channels_collapse_without_loss(tmp_path, channels):
    image = np.stack([RAMP] * 3 + [np.full_like(RAMP, 65535)], axis=-1)[..., :channels]
    assert np.array_equal(read_image(write_picture(tmp_path / 'a.png', image)), RAMP)
    tifffile.imwrite(tmp_path / 'a.tif', image, photometric='rgb')
    assert np.array_equal(read_image(tmp_path / 'a.tif'), RAMP)
    planar = np.moveaxis(image, -1, 0)
    tifffile.imwrite(tmp_path / 'b.tif', planar, photometric='rgb', planarconfig='separate')
    assert np.array_equal(read_image(tmp_path / 'b.tif'), RAMP)
    assert read_image(tmp_path / 'b.tif').dtype == np.uint16


def test_colours_become_luma_in_the_same_order_from_png_and_tiff(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = rgb @ np.array([0.299, 0.587, 0.114])
    tifffile.imwrite(tmp_path / 'a.tif', rgb, photometric='rgb')
    for path in (write_picture(tmp_path / 'a.png', rgb[..., ::-1]), tmp_path / 'a.tif'):
        image = read_image(path)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, expected, rtol=1e-5)


def test_two_measurement_channels_are_not_mixed(tmp_path):
    two = np.stack([RAMP, RAMP[::-1]])
    kinds = dict(photometric='minisblack', planarconfig='separate')
    tifffile.imwrite(tmp_path / 'a.tif', two, **kinds)
    with pytest.raises(ImageReadError, match='2 different channels'):
        read_image(tmp_path / 'a.tif')


def test_a_stack_needs_a_frame(tmp_path):
    stack = np.stack([RAMP, RAMP + 1, RAMP + 2])
    path = tmp_path / 'stack.tif'
    tifffile.imwrite(path, stack, photometric='minisblack')
    assert count_frames(path) == 3
    with pytest.raises(ImageReadError, match='3 pages; pass frame=0 to frame=2'):
        read_image(path)
    for frame in range(3):
        assert np.array_equal(read_image(path, frame), stack[frame])
    for frame in (3, -1):
        with pytest.raises(ImageReadError, match='no frame'):
            read_image(path, frame)


def test_a_stack_with_one_index_entry_is_not_taken_for_its_first_page(tmp_path):
    tifffile.imwrite(tmp_path / 'a.tif', np.stack([RAMP] * 3), imagej=True, truncate=True)
    with pytest.raises(ImageReadError, match='not indexed'):
        read_image(tmp_path / 'a.tif')


def test_every_truncation_of_a_png_is_refused(png):
    data = png.read_bytes()
    for kept in [*range(0, len(data), 97), len(data) - 12, len(data) - 1]:
        png.write_bytes(data[:kept])
        with pytest.raises(ImageReadError):
            read_image(png)


@pytest.mark.parametrize('suffix', ['.jpg', '.bmp', '.tif'])
@pytest.mark.parametrize('kept', [0, 3, 40, 0.5, 0.98])
def test_truncated_files_are_refused(tmp_path, suffix, kept):
    image = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
    path = tmp_path / f'a{suffix}'
    if suffix == '.tif':
        tifffile.imwrite(path, image)
    else:
        path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    assert read_image(path).shape == (48, 64)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(ImageReadError):
        read_image(path)


def test_flipped_bytes_never_escape_as_another_error(tmp_path, png):
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / 'a.tif', RAMP, compression='zlib')
    for path in (png, tmp_path / 'a.tif'):
        data = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[rng.integers(0, len(data), 3)] ^= 255
            path.write_bytes(damaged.tobytes())
            try:
                assert read_image(path).ndim == 2
            except ImageReadError:
                pass


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tif'])
def test_junk_and_missing_and_empty_files(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    for call in (read_image, read_size, count_frames, read_pixel_size_um):
        with pytest.raises(ImageReadError, match='no such file'):
            call(path)
    path.write_bytes(b'')
    with pytest.raises(ImageReadError, match='0 bytes'):
        read_image(path)
    for junk in (b'<html>404</html>', b'II*\0' + b'\xff' * 60, b'\x89PNG\r\n\x1a\n' + bytes(60)):
        path.write_bytes(junk)
        with pytest.raises(ImageReadError, match='damaged'):
            read_image(path)
        with pytest.raises(ImageReadError):
            read_size(path)


def test_other_file_types_and_folders_are_refused(tmp_path):
    (tmp_path / 'weights.pkl').write_bytes(pickle.dumps(1))
    (tmp_path / 'folder.png').mkdir()
    for name in ('weights.pkl', 'folder.png'):
        with pytest.raises(ImageReadError, match=name):
            read_image(tmp_path / name)


def test_a_huge_png_is_refused_from_its_header(tmp_path):
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data).to_bytes(4, 'big')
        return len(data).to_bytes(4, 'big') + kind + data + checksum

    side = (30000).to_bytes(4, 'big')
    rows = zlib.compress(bytes((30000 // 8 + 1) * 30000))
    path = tmp_path / 'bomb.png'
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', side + side + bytes([1, 0, 0, 0, 0]))
        + chunk(b'IDAT', rows)
        + chunk(b'IEND', b'')
    )
    for call in (read_image, read_size):
        start = time.perf_counter()
        with pytest.raises(ImageReadError, match='900000000 pixels'):
            call(path)
        assert time.perf_counter() - start < 0.5


def test_non_finite_pixels_are_refused(tmp_path):
    for bad in (np.nan, np.inf):
        image = np.ones((8, 8), np.float32)
        image[3, 4] = bad
        tifffile.imwrite(tmp_path / 'a.tif', image)
        with pytest.raises(ImageReadError, match='NaN or infinite'):
            read_image(tmp_path / 'a.tif')


def test_the_error_crosses_a_pipe():
    error = pickle.loads(pickle.dumps(ImageReadError('a.png', 'why')))
    assert str(error) == 'a.png: why' and isinstance(error, ValueError)


def ome(attributes, extra=''):
    return f'<OME xmlns="x"><Image ID="0"><Pixels {attributes}>{extra}</Pixels></Image></OME>'


@pytest.mark.parametrize(
    ('attributes', 'expected'),
    [
        ('PhysicalSizeX="0.5" PhysicalSizeY="0.4"', (0.5, 0.4)),
        ('PhysicalSizeX="500" PhysicalSizeXUnit="nm" PhysicalSizeY="0.4"', (0.5, 0.4)),
        ('PhysicalSizeX="5e-7" PhysicalSizeY="5e-7"', None),  # metres, said to be micrometres
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1"', None),
        ('PhysicalSizeX="0.5"', None),
        ('PhysicalSizeX="nan" PhysicalSizeY="nan"', None),
    ],
)
def test_pixel_size_from_ome(tmp_path, attributes, expected):
    text = ome(attributes)
    tifffile.imwrite(tmp_path / 'a.tif', RAMP, description=text.encode(), metadata=None)
    size = read_pixel_size_um(tmp_path / 'a.tif')
    assert size == pytest.approx(expected) if expected else size is None


def test_ome_does_not_open_other_files(tmp_path):
    extra = '<TiffData IFD="0"><UUID FileName="../x.tif">urn:uuid:1</UUID></TiffData>'
    attributes = 'DimensionOrder="XYCZT" Type="uint16" SizeX="128" SizeY="32" SizeC="1" SizeT="2"'
    text = ome(attributes + ' SizeZ="1" ID="P"', extra)
    tifffile.imwrite(tmp_path / 'a.ome.tif', RAMP, description=text.encode(), metadata=None)
    assert np.array_equal(read_image(tmp_path / 'a.ome.tif'), RAMP)


def test_pixel_size_from_imagej(tmp_path):
    kinds = dict(imagej=True, resolution=(2.0, 2.5))
    tifffile.imwrite(tmp_path / 'a.tif', RAMP, metadata={'unit': 'micron'}, **kinds)
    assert read_pixel_size_um(tmp_path / 'a.tif') == pytest.approx((0.5, 0.4))
    tifffile.imwrite(tmp_path / 'b.tif', RAMP, metadata={'unit': 'inch'}, **kinds)
    assert read_pixel_size_um(tmp_path / 'b.tif') is None


def test_pixel_size_from_scanimage(tmp_path):
    corners = '[-32 -16;32 -16;32 16;-32 16]'
    lines = [f'imagingFovUm = {corners}', 'pixelsPerLine = 128', 'linesPerFrame = 32']
    text = '\n'.join(f'SI.hRoiManager.{line}' for line in lines)
    tifffile.imwrite(tmp_path / 'a.tif', RAMP, software=text, metadata=None)
    assert read_pixel_size_um(tmp_path / 'a.tif') == pytest.approx((0.5, 1.0))
    tifffile.imwrite(tmp_path / 'b.tif', RAMP[:16], software=text, metadata=None)
    assert read_pixel_size_um(tmp_path / 'b.tif') is None


def write_scaled(path, field, um):
    """Write a TIFF whose pixel is `um` x `um` micrometres by one of the fields that can say so."""
    if field == 'ImageJ':
        kinds = dict(imagej=True, resolution=(1 / um, 1 / um), metadata={'unit': 'micron'})
    elif field == 'OME':
        text = ome(f'PhysicalSizeX="{um}" PhysicalSizeY="{um}"')
        kinds = dict(description=text.encode(), metadata=None)
    else:
        x, y = um * RAMP.shape[1], um * RAMP.shape[0]
        lines = [f'imagingFovUm = [0 0;{x} 0;{x} {y};0 {y}]', 'pixelsPerLine = 128']
        lines = [f'SI.hRoiManager.{line}' for line in [*lines, 'linesPerFrame = 32']]
        kinds = dict(software='\n'.join(lines), metadata=None)
    tifffile.imwrite(path, RAMP, **kinds)


@pytest.mark.parametrize('field', ['OME', 'ScanImage', 'ImageJ'])
def test_an_implausible_pixel_size_is_told_once_a_file(tmp_path, caplog, field):
    write_scaled(tmp_path / 'right.tif', field, 0.5)
    assert read_pixel_size_um(tmp_path / 'right.tif') == pytest.approx((0.5, 0.5))
    assert caplog.messages == []
    for name in ('a.tif', 'b.tif'):
        write_scaled(tmp_path / name, field, 250)
        for _ in range(2):
            assert read_pixel_size_um(tmp_path / name) is None
    assert len(caplog.messages) == 2 and {r.levelname for r in caplog.records} == {'WARNING'}
    for name, message in zip(('a.tif', 'b.tif'), caplog.messages, strict=True):
        for part in (name, field, '250 x 250 um/pixel', '0.01 to 20.0', '--pixel-size-um'):
            assert part in message


def test_printing_resolutions_are_no_scale(tmp_path, png):
    tifffile.imwrite(tmp_path / 'a.tif', RAMP, resolution=(1, 1), resolutionunit='CENTIMETER')
    assert read_pixel_size_um(tmp_path / 'a.tif') is None
    assert read_pixel_size_um(png) is None


def test_formats_need_no_framework():
    code = 'import sys, pipedet.formats; assert not {"torch", "mmengine"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('bigtiff', [False, True])
@pytest.mark.parametrize('byteorder', '<>')
def test_a_stack_cut_short_is_not_a_shorter_one(tmp_path, bigtiff, byteorder):
    path = tmp_path / 'a.tif'
    stack = np.stack([RAMP] * 9)
    kinds = dict(photometric='minisblack', metadata=None, bigtiff=bigtiff, byteorder=byteorder)
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as file:
        for page in stack:
            file.write(page, photometric='minisblack', metadata=None, contiguous=False)
    assert count_frames(path) == 9
    data = path.read_bytes()
    for kept in (0.2, 0.5, 0.8):
        path.write_bytes(data[: int(kept * len(data))])
        for call in (count_frames, lambda path: read_image(path, 0), read_pixel_size_um):
            with pytest.raises(ImageReadError, match='cut short after'):
                call(path)
    tifffile.imwrite(path, stack, **kinds)  # all pixels first, then all directories
    path.write_bytes(path.read_bytes()[: len(data) // 2])
    with pytest.raises(ImageReadError, match='cut short'):
        count_frames(path)


def test_a_circle_of_pages_ends(tmp_path):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, RAMP, metadata=None)
    data = path.read_bytes()
    at = int.from_bytes(data[4:8], 'little')
    entries = int.from_bytes(data[at : at + 2], 'little')
    end = at + 2 + 12 * entries
    path.write_bytes(data[:end] + at.to_bytes(4, 'little') + data[end + 4 :])
    assert count_frames(path) == 1 and np.array_equal(read_image(path), RAMP)


def test_thumbnails_and_smaller_copies_are_no_frames(tmp_path):
    path = tmp_path / 'a.tif'
    with tifffile.TiffWriter(path) as file:
        for image, kind in ((RAMP, 0), (RAMP[::2, ::2], 1), (RAMP[::-1], 0)):
            file.write(image, photometric='minisblack', subfiletype=kind, metadata=None)
    assert count_frames(path) == 2 and read_size(path, 1) == RAMP.shape
    assert np.array_equal(read_image(path, 1), RAMP[::-1])
    with tifffile.TiffWriter(path) as file:
        for image, kind in ((RAMP[::2, ::2], 1), (RAMP, 0)):
            file.write(image, photometric='minisblack', subfiletype=kind, metadata=None)
    assert count_frames(path) == 1 and np.array_equal(read_image(path), RAMP)
    tifffile.imwrite(path, RAMP, subfiletype=1, metadata=None)  # a copy of nothing
    assert np.array_equal(read_image(path), RAMP)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'float32'])
def test_more_is_brighter_whatever_zero_stands_for(tmp_path, dtype):
    image = np.arange(256).reshape(32, 8).astype(dtype)
    if dtype == 'int16':
        image[0, 0] = -32768
    tifffile.imwrite(tmp_path / 'a.tif', image, photometric='miniswhite')
    seen = read_image(tmp_path / 'a.tif')
    assert seen.dtype == image.dtype
    assert len(np.unique(seen.astype(float) + image)) == 1


def test_indices_of_a_palette_are_looked_up_but_for_imagej(tmp_path):
    index = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = np.random.default_rng(0).permutation(256).astype(np.uint16) * 257
    kinds = dict(photometric='palette', colormap=np.stack([grey] * 3))
    tifffile.imwrite(tmp_path / 'a.tif', index, **kinds)
    assert np.array_equal(read_image(tmp_path / 'a.tif'), grey[index])
    # There a palette is how the measured pixels are shown, and page one alone says whose it is.
    with tifffile.TiffWriter(tmp_path / 'b.tif') as file:
        for description in ('ImageJ=1.54', None, None):
            file.write(index, description=description, metadata=None, contiguous=False, **kinds)
    for frame in range(3):
        assert np.array_equal(read_image(tmp_path / 'b.tif', frame), index)


def test_a_palette_of_colours_is_display(tmp_path, caplog):
    index = np.arange(256, dtype=np.uint8).reshape(16, 16)
    fire = np.random.default_rng(0).integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / 'a.tif', index, photometric='palette', colormap=fire)
    assert np.array_equal(read_image(tmp_path / 'a.tif'), index)
    assert 'save it in grey' in caplog.text


def test_colours_are_told_once_a_file(tmp_path, caplog):
    rgb = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / 'a.tif', rgb, photometric='rgb')
    for frame in (0, 1):
        read_image(tmp_path / 'a.tif', frame)
    assert len(caplog.messages) == 1 and 'choose the one that shows the pipettes' in caplog.text


def test_pixel_sizes_in_other_units_and_of_micromanager(tmp_path):
    path = tmp_path / 'a.tif'
    for unit, um in (('nm', 1e-3), ('mm', 1e3), ('Microns', 1.0)):
        kinds = dict(imagej=True, resolution=(um / 0.5, um / 0.4))
        tifffile.imwrite(path, RAMP, metadata={'unit': unit}, **kinds)
        assert read_pixel_size_um(path) == pytest.approx((0.5, 0.4))
    # Micro-Manager: pixels per centimetre, and a unit that ImageJ shows.
    kinds = dict(resolution=(2e4, 2e4), resolutionunit='CENTIMETER', metadata=None)
    tifffile.imwrite(path, RAMP, description='ImageJ=1.11a\nunit=um\n', **kinds)
    assert read_pixel_size_um(path) == pytest.approx((0.5, 0.5))
    tag = (51123, 's', 0, '{"PixelSizeUm": 0.5}', True)
    tifffile.imwrite(path, RAMP, metadata=None, extratags=[tag])
    assert read_pixel_size_um(path) == pytest.approx((0.5, 0.5))
