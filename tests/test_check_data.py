"""Planted faults of whole datasets: what no single row shows is found by comparing."""

import numpy as np
import pytest
import tifffile

from pipedet.cli import main
from pipedet.datasets import DatasetError, PipetteImages
from pipedet.formats import ImageRecord, write_annotations
from pipedet.formats.plausibility import find_misreadings
from pipedet.visualization import write_picture

SIZE = 64
READINGS = {
    'swapped': lambda tips: tips[:, ::-1],
    'upwards': lambda tips: tips * (1, -1) + (0, SIZE - 1),
    'micrometres': lambda tips: tips * 0.5,
    'fractions': lambda tips: tips / SIZE,
}


def spots(rng, count=2):
    """Noise with a bright spot at each tip."""
    tips = rng.uniform(6, SIZE - 6, (count, 2))
    y, x = np.mgrid[:SIZE, :SIZE]
    image = rng.normal(100, 5, (SIZE, SIZE))
    for tip in tips:
        image += 60 * np.exp(-((x - tip[0]) ** 2 + (y - tip[1]) ** 2) / 8)
    return image.clip(0, 255).astype(np.uint8), tips


def write_split(root, name, seed, wrong=lambda tips: tips, count=10):
    rng = np.random.default_rng(seed)
    records = []
    for i in range(count):
        image, tips = spots(rng)
        file_name = f'{name}_{i}.png'
        write_picture(root / file_name, image)
        tips = wrong(tips).astype(np.float32)
        records.append(ImageRecord(file_name=file_name, tips=tips, session=f'{name} {i % 3}'))
    write_annotations(root / f'{name}.csv', records)
    return records


def check(root, *names, expect=None, capsys=None):
    arguments = ['check_data', str(root), *names, '--pixel-size-um', '0.5']
    if expect is None:
        main(arguments)
    else:
        with pytest.raises(SystemExit):
            main(arguments)
    return capsys.readouterr().out


def test_sound_splits_have_no_fault(tmp_path, capsys):
    write_split(tmp_path, 'train', 1)
    write_split(tmp_path, 'test', 2)
    assert 'no fault in 20 images' in check(tmp_path, 'train.csv', 'test.csv', capsys=capsys)


def test_right_labels_raise_no_doubt():
    images = [(*spots(np.random.default_rng(i)), (0.5, 0.5)) for i in range(40)]
    assert find_misreadings(images) == [] and find_misreadings([]) == []


@pytest.mark.parametrize('reading', READINGS)
def test_a_misread_frame_is_told_from_the_images(tmp_path, capsys, reading):
    write_split(tmp_path, 'train', 1, READINGS[reading])
    out = check(tmp_path, 'train.csv', expect=1, capsys=capsys)
    assert out.count('FAULT') == 1 and reading in out
    images = dict(root=tmp_path, annotations='train.csv', pipeline=[], seed=0, subset='rig')
    with pytest.raises(DatasetError, match=reading):
        PipetteImages(**images, pixel_size_um=0.5, strict=True)


def test_what_two_splits_share_is_found(tmp_path, capsys):
    train, test = write_split(tmp_path, 'train', 1), write_split(tmp_path, 'test', 2)
    (tmp_path / 'test_4.png').write_bytes((tmp_path / 'train_7.png').read_bytes())
    test[4].tips = train[7].tips
    test[0].session = 'train 0'
    write_annotations(tmp_path / 'test.csv', test)
    out = check(tmp_path, 'train.csv', 'test.csv', expect=1, capsys=capsys)
    assert out.count('FAULT') == 2
    assert "session 'train 0' is in test.csv and train.csv" in out
    assert 'test.csv test_4.png frame 0 and train.csv train_7.png frame 0' in out


def test_copies_may_not_be_split(tmp_path):
    write_split(tmp_path, 'all', 1)
    (tmp_path / 'all_4.png').write_bytes((tmp_path / 'all_3.png').read_bytes())
    images = dict(root=tmp_path, annotations='all.csv', pipeline=[], seed=0, subset='rig')
    with pytest.raises(DatasetError, match='all_3.png = all_4.png'):
        for seed in range(9):  # one of them parts the sessions of the two
            PipetteImages(**images, split='train', split_seed=seed)


def test_damaged_pixels_and_bad_rows_are_listed_together(tmp_path, capsys):
    write_split(tmp_path, 'train', 1)
    path = tmp_path / 'train_3.png'
    path.write_bytes(path.read_bytes()[:-40])
    with (tmp_path / 'train.csv').open('a', encoding='utf-8') as file:
        file.write('train_5.png,500,1,,,,\ngone.png,1,1,,,,\n')
    out = check(tmp_path, 'train.csv', expect=1, capsys=capsys)
    assert out.count('FAULT') == 3
    for part in ('train_3.png: damaged', 'outside 64 x 64', 'no such file'):
        assert part in out


@pytest.mark.parametrize('wrong', ['train_3.PNG', 'train_3.tif'])
def test_a_misnamed_image_is_a_fault(tmp_path, capsys, wrong):
    write_split(tmp_path, 'train', 1)
    (tmp_path / 'train_3.png').rename(tmp_path / wrong)
    out = check(tmp_path, 'train.csv', expect=1, capsys=capsys)
    for part in ('FAULT', 'train_3.png: no such file', f"no row names '{wrong}'"):
        assert part in out


def test_an_implausible_scale_of_a_file_is_told_once(tmp_path, caplog):
    image = spots(np.random.default_rng(0))[0]
    wrong = dict(imagej=True, resolution=(2e6, 2e6), metadata={'unit': 'micron'})
    tifffile.imwrite(tmp_path / 'a.tif', image, **wrong)
    for name in ('train.csv', 'test.csv'):
        write_annotations(tmp_path / name, [ImageRecord(file_name='a.tif', session='1')])
    with pytest.raises(SystemExit):  # the two share an image
        main(['check_data', str(tmp_path), 'train.csv', 'test.csv'])
    told = [message for message in caplog.messages if '--pixel-size-um' in message]
    assert len(told) == 1 and 'a.tif' in told[0]
