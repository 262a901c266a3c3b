"""Channels of stacks: which page shows which, as OME, ScanImage and ImageJ say it."""

import csv
from itertools import permutations

import cv2
import numpy as np
import pytest
import tifffile

from pipedet.cli import main
from pipedet.formats import ImageReadError, frames_of_channel, read_channels, read_image

SIZES = dict(C=2, Z=3, T=4)


def stack(axes, sizes):
    """Draw a stack whose every pixel is the number of its channel."""
    shape = [sizes[axis] for axis in axes]
    channel = 1 + np.indices(shape)[axes.index('C')]
    return np.broadcast_to(channel[..., None, None], (*shape, 5, 7)).astype(np.uint8)


def levels(path):
    return [int(read_image(path, frame).max()) for frame in range(len(read_channels(path)))]


@pytest.mark.parametrize('axes', [''.join(order) for order in permutations('CZT')])
def test_each_order_of_ome(tmp_path, axes):
    path = tmp_path / 'a.ome.tif'
    image = stack(axes, SIZES)
    tifffile.imwrite(path, image, photometric='minisblack', metadata=dict(axes=f'{axes}YX'))
    assert read_channels(path) == levels(path) and set(levels(path)) == {1, 2}
    frames, within = frames_of_channel(path, 2)
    assert [levels(path)[frame] for frame in frames] == [2] * 12 and within is None
    with pytest.raises(ImageReadError, match='no channel 3, only 1, 2'):
        frames_of_channel(path, 3)


def test_imagej(tmp_path):
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, stack('TZC', SIZES), imagej=True, metadata=dict(axes='TZCYX'))
    assert read_channels(path) == levels(path) == [1, 2] * 12


def pages(path, count, description=None, software=None):
    with tifffile.TiffWriter(path) as file:
        for page in range(count):
            text = description if page == 0 else None
            image = np.full((5, 7), page, np.uint8)
            file.write(image, description=text, software=software, metadata=None, contiguous=False)
    return path


def test_scanimage_names_the_channels_that_were_saved(tmp_path):
    said = 'SI.VERSION_MAJOR = 2020\nSI.hChannels.channelSave = {}\nSI.hChannels.x = 7'
    path = pages(tmp_path / 'a.tif', 4, software=said.format('[1;3]'))
    assert read_channels(path) == [1, 3, 1, 3]
    assert frames_of_channel(path, 3) == ([1, 3], None)
    older = 'scanimage.' + said.format('[1 2]').replace('\n', '\nscanimage.')
    assert read_channels(pages(tmp_path / 'b.tif', 3, older)) == [1, 2, 1]
    assert read_channels(pages(tmp_path / 'c.tif', 3, software=said.format(2))) is None


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    'DimensionOrder="{order}" SizeC="{c}" SizeZ="1" SizeT="{t}" Type="uint8" SizeX="7" SizeY="5">'
    '{channels}{blocks}</Pixels></Image></OME>'
)


def test_pages_as_micromanager_lists_them(tmp_path):
    blocks = ''.join(
        f'<TiffData FirstC="{c}" FirstT="{t}" FirstZ="0" IFD="{page}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:0</UUID></TiffData>'
        for page, (c, t, name) in enumerate([(1, 0, 'a.tif'), (0, 0, 'a.tif'), (0, 1, 'a.tif')])
    )
    two = '<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>'
    text = OME.format(order='XYCZT', c=2, t=2, channels=two, blocks=blocks)
    assert read_channels(pages(tmp_path / 'a.tif', 3, text)) == [2, 1, 1]
    assert read_channels(pages(tmp_path / 'renamed.tif', 3, text)) == [2, 1, 1]
    # Of two files each has a part, and what nothing is said of has no channel.
    parts = text.replace('a.tif', 'b.tif', 1)
    assert read_channels(pages(tmp_path / 'b.tif', 3, parts)) is None
    whole = OME.format(order='XYCZT', c=2, t=2, channels=two, blocks='<TiffData PlaneCount="4"/>')
    assert read_channels(pages(tmp_path / 'c.tif', 5, whole)) == [1, 2, 1, 2, None]


def test_colours_are_no_pages(tmp_path):
    colours = '<Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
    text = OME.format(order='XYCZT', c=3, t=4, channels=colours, blocks='<TiffData/>')
    assert read_channels(pages(tmp_path / 'a.tif', 4, text)) is None


def test_files_that_say_nothing_have_one_channel(tmp_path):
    for text in (None, 'ImageJ=1.54\nimages=4\n', '<OME', OME[:40], 'ImageJ=1\nchannels=0'):
        assert read_channels(pages(tmp_path / 'a.tif', 4, text)) is None
    broken = OME.format(order='XYQQQ', c=2, t=2, channels='', blocks='<TiffData/>')
    assert read_channels(pages(tmp_path / 'a.tif', 4, broken)) is None
    none = broken.replace('XYQQQ', 'XYCZT').replace('SizeC="2"', 'SizeC="0"')
    assert read_channels(pages(tmp_path / 'a.tif', 4, none)) is None


def test_a_channel_of_colours(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    png, tiff = tmp_path / 'a.png', tmp_path / 'a.tif'
    png.write_bytes(cv2.imencode('.png', rgba[..., [2, 1, 0, 3]])[1].tobytes())
    tifffile.imwrite(tiff, rgba, photometric='rgb', extrasamples=['unassalpha'])
    for path in (png, tiff):
        for channel in (1, 2, 3):
            image = read_image(path, channel=channel)
            assert np.array_equal(image, rgba[..., channel - 1]) and image.dtype == np.uint8
        for channel in (0, 4):  # the fourth is alpha
            with pytest.raises(ImageReadError, match=f'no channel {channel} in a frame of 3'):
                read_image(path, channel=channel)
    planes = np.moveaxis(rgba[..., :2], -1, 0)
    tifffile.imwrite(tiff, planes, photometric='minisblack', planarconfig='separate')
    assert np.array_equal(read_image(tiff, channel=2), rgba[..., 1])
    tifffile.imwrite(tiff, rgba[..., 0])
    assert np.array_equal(read_image(tiff, channel=1), rgba[..., 0])
    with pytest.raises(ImageReadError, match='no channel 2 in a frame of 1'):
        read_image(tiff, channel=2)


def test_predict_keeps_to_a_channel(tmp_path, capsys):
    source = tmp_path / 'images'
    source.mkdir()
    noise = np.random.default_rng(0).normal(100, 10, (3, 2, 64, 64)).clip(0).astype(np.uint8)
    meta = dict(axes='TCYX', unit='um')
    tifffile.imwrite(
        source / 'a.tif', noise, imagej=True, metadata=meta, resolution=(1 / 0.8, 1 / 0.8)
    )
    tifffile.imwrite(source / 'b.tif', noise[0, 0])

    def searched(out, *options):
        main(['predict', str(source), '--out', str(tmp_path / out), *options])
        with open(tmp_path / out / 'frames.csv', encoding='utf-8') as file:
            return [(row['image'], row['frame'], row['channel']) for row in csv.DictReader(file)]

    all_frames = [('a.tif', str(i), str(1 + i % 2)) for i in range(6)] + [('b.tif', '0', '')]
    assert searched('all', '--pixel-size-um', '0.81') == all_frames
    told = capsys.readouterr().out
    assert '1 files hold several channels' in told and 'another pixel size' not in told
    first = [('a.tif', str(i), '1') for i in (0, 2, 4)] + [('b.tif', '0', '1')]
    assert searched('one', '--channel', '1', '--pixel-size-um', '0.5') == first
    told = capsys.readouterr().out
    assert 'several channels' not in told
    assert '1 files say another pixel size than the --pixel-size-um 0.5' in told
    with pytest.raises(SystemExit):
        searched('none', '--channel', '3')
    told = capsys.readouterr().err
    assert 'no channel 3, only 1, 2' in told and 'no channel 3 in a frame of 1' in told
