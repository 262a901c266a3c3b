"""Faults to plant: damaged images, wrong annotations, malicious files. For reliability.py."""

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch

from pipedet.formats.digest import sha256_of
from pipedet.visualization import write_picture

# What is trained, in seconds.
TINY = Path(__file__).parent.parent / 'configs' / '_base_' / 'tiny.py'
SEED = 0
SIZE = 64
Planted = tuple[str, str, dict]  # annotation file, what the error must say, options of the dataset


def corrupt_images(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write damaged images of every format, one at a time.

    Cut short, empty, of another kind, or a bit flipped; the last in PNG only, whose checksums can
    tell, and where one counts: in the chunk of the pixels.
    """
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 4096, (96, 80), dtype=np.uint16)
    low = (image >> 4).astype(np.uint8)
    whole = {
        'a.png': cv2.imencode('.png', image)[1].tobytes(),
        'a.jpg': cv2.imencode('.jpg', low)[1].tobytes(),
        'a.bmp': cv2.imencode('.bmp', low)[1].tobytes(),
    }
    writes = {
        'plain.tif': dict(data=image),
        'zlib.tif': dict(data=image, compression='zlib'),
        'stack.tif': dict(data=np.stack([image] * 3), photometric='minisblack'),
        'image.ome.tif': dict(data=image, metadata=dict(axes='YX')),
    }
    for name, options in writes.items():
        tifffile.imwrite(folder / name, **options)
        whole[name] = (folder / name).read_bytes()
    kinds = ('cut', 'cut', 'cut', 'empty', 'other', 'flip')
    for number in range(count):
        name = list(whole)[number % len(whole)]
        kind = kinds[number // len(whole) % len(kinds)]
        data = whole[name]
        if kind == 'cut':
            # The whole of a TIFF may lie before what its last bytes say about it: cut into pixels.
            data = data[: rng.integers(1, len(data) // 2)]
        elif kind == 'empty':
            data = b''
        elif kind == 'other':
            data = b'<!DOCTYPE html><html><body>404 Not Found</body></html>'
        else:
            name, data = 'a.png', bytearray(whole['a.png'])
            start = data.index(b'IDAT') + 4
            data[rng.integers(start, len(data) - 20)] ^= 1 << int(rng.integers(8))
        path = folder / f'{number}_{kind}_{name}'
        path.write_bytes(data)
        yield path


def huge_png(path: Path) -> None:
    """Write a sound PNG of 900 megapixels, one bit each, in 0.1 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data).to_bytes(4, 'big')
        return len(data).to_bytes(4, 'big') + kind + data + crc

    side = 30_000
    header = side.to_bytes(4, 'big') * 2 + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    chunks = chunk(b'IHDR', header) + chunk(b'IDAT', rows) + chunk(b'IEND', b'')
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunks)


def write_rig(folder: Path, count: int = 12) -> dict:
    """Write images with a bright spot at each of two tips; return a sound COCO file's content."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    images, annotations = [], []
    for i in range(count):
        image = rng.normal(100, 5, (SIZE, SIZE))
        for tip in rng.uniform(6, SIZE - 6, (2, 2)).round(2).tolist():
            image += 60 * np.exp(-((x - tip[0]) ** 2 + (y - tip[1]) ** 2) / 8)
            keypoints = dict(keypoints=[*tip, 2], num_keypoints=1)
            annotations.append(dict(id=len(annotations), image_id=i, category_id=1, **keypoints))
        write_picture(folder / f'{i}.png', image.clip(0, 255).astype(np.uint8))
        about = dict(session=f's{i % 4}', width=SIZE, height=SIZE, pixel_size_um=0.5)
        images.append(dict(id=i, file_name=f'{i}.png', **about))
    return dict(images=images, annotations=annotations)


def annotation_faults() -> dict[str, Callable[[Path], Planted]]:
    """Return what plants each fault into a fresh folder."""
    faults = {
        'NaN': (lambda c, f: _point(c, 0, float('nan')), 'annotations[3]: x is nan'),
        'infinity': (lambda c, f: _point(c, 1, float('inf')), 'annotations[3]: y is inf'),
        'text': (lambda c, f: _point(c, 0, 'left'), 'annotations[3]: x is'),
        'true': (lambda c, f: _point(c, 0, True), 'annotations[3]: x is True'),
        'visibility': (lambda c, f: _point(c, 2, 7), 'annotations[3]: v is 7'),
        'outside': (lambda c, f: _point(c, 0, 64.0), 'tip [64.0, '),
        'negative': (lambda c, f: _point(c, 1, -3.0), 'outside 64 x 64'),
        'two numbers': (lambda c, f: c['annotations'][3]['keypoints'].pop(), '2 keypoint numbers'),
        'no keypoints': (lambda c, f: c['annotations'][3].pop('keypoints'), "no 'keypoints'"),
        'no such image': (lambda c, f: c['annotations'][3].update(image_id=99), 'id 99'),
        'the same tip twice': (_same_tip, 'the same tip twice'),
        'duplicate id': (lambda c, f: c['images'][3].update(id=2), 'images[3]: id 2'),
        'image twice': (lambda c, f: c['images'][3].update(file_name='2.png'), 'same image as'),
        'other size': (lambda c, f: c['images'][3].update(width=128), 'annotated as 128 x 64'),
        'metres': (
            lambda c, f: c['images'][3].update(pixel_size_um=5e-7),
            'pixel_size_um is 5e-07',
        ),
        'missing file': (lambda c, f: (f / '3.png').unlink(), 'no such file'),
        'damaged header': (lambda c, f: (f / '3.png').write_bytes(b'\x89PNG'), '3.png: damaged'),
        'parent': (lambda c, f: c['images'][3].update(file_name='../3.png'), "has '..'"),
        'absolute': (lambda c, f: c['images'][3].update(file_name='/etc/hostname'), 'absolute'),
        'drive': (lambda c, f: c['images'][3].update(file_name='C:\\3.png'), 'absolute'),
        'URL': (lambda c, f: c['images'][3].update(file_name='https://a/3.png'), 'a URL'),
        'link': (_link, 'leaves the root'),
        'stack': (_stack, 'a stack of 3 pages'),
        'frame': (lambda c, f: c['images'][3].update(frame=4), 'no frame 4'),
        'swapped': (lambda c, f: _every(c, lambda x, y: (y, x)), 'swapped'),
        'micrometres': (lambda c, f: _every(c, lambda x, y: (x / 2, y / 2)), 'micrometres'),
        'upwards': (lambda c, f: _every(c, lambda x, y: (x, SIZE - 1 - y)), 'upwards'),
        'fractions': (lambda c, f: _every(c, lambda x, y: (x / SIZE, y / SIZE)), 'fractions'),
    }
    cases = {name: _planter(*fault) for name, fault in faults.items()}
    return cases | {
        'duplicate key': _duplicate_key,
        'pickle': _pickled,
        'copy in two splits': _copy_in_two_splits,
        'file of two sessions': _file_of_two_sessions,
        'decimal comma': _planter_csv('3.png,"1,5",2', "x is '1,5'"),
        'a tip and none': _planter_csv('0.png,1,2\n0.png,,', 'tip and no tip'),
    }


def _planter(spoil: Callable[[dict, Path], object], expected: str) -> Callable[[Path], Planted]:
    def plant(folder: Path) -> Planted:
        content = write_rig(folder)
        spoil(content, folder)
        (folder / 'tips.json').write_text(json.dumps(content), encoding='utf-8')
        return 'tips.json', expected, {}

    return plant


def _planter_csv(rows: str, expected: str) -> Callable[[Path], Planted]:
    def plant(folder: Path) -> Planted:
        write_rig(folder)
        (folder / 'tips.csv').write_text(f'image,x,y\n{rows}\n', encoding='utf-8')
        return 'tips.csv', expected, {}

    return plant


def _point(content: dict, place: int, value: object) -> None:
    content['annotations'][3]['keypoints'][place] = value


def _every(content: dict, read: Callable) -> None:
    for annotation in content['annotations']:
        x, y, v = annotation['keypoints']
        annotation['keypoints'] = [*read(x, y), v]


def _same_tip(content: dict, folder: Path) -> None:
    content['annotations'][3]['keypoints'] = content['annotations'][2]['keypoints']


def _link(content: dict, folder: Path) -> None:
    outside = folder.with_name(folder.name + '_outside.png')
    outside.write_bytes((folder / '3.png').read_bytes())
    (folder / '3.png').unlink()
    (folder / '3.png').symlink_to(outside)


def _stack(content: dict, folder: Path) -> None:
    tifffile.imwrite(
        folder / 'stack.tif', np.zeros((3, SIZE, SIZE), np.uint16), photometric='minisblack'
    )
    content['images'][3].update(file_name='stack.tif')


def _duplicate_key(folder: Path) -> Planted:
    text = json.dumps(write_rig(folder))
    (folder / 'tips.json').write_text(
        text.replace('"id": 3,', '"id": 3, "id": 4,', 1), encoding='utf-8'
    )
    return 'tips.json', "key 'id' twice", {}


def _pickled(folder: Path) -> Planted:
    write_rig(folder)
    (folder / 'tips.pkl').write_bytes(b'(lp0\n.')
    return 'tips.pkl', 'cannot hold annotations', {}


def _copy_in_two_splits(folder: Path) -> Planted:
    content = write_rig(folder)
    # Three sessions of four images for three splits, and one image in two of the sessions.
    for i, image in enumerate(content['images']):
        image['session'] = f's{i % 3}'
    (folder / '1.png').write_bytes((folder / '0.png').read_bytes())
    (folder / 'tips.json').write_text(json.dumps(content), encoding='utf-8')
    return 'tips.json', '0.png = 1.png', dict(split='train')


def _file_of_two_sessions(folder: Path) -> Planted:
    content = write_rig(folder)
    tifffile.imwrite(
        folder / 'stack.tif', np.zeros((3, SIZE, SIZE), np.uint16), photometric='minisblack'
    )
    for i in range(3):
        content['images'].append(
            dict(id=90 + i, file_name='stack.tif', frame=i, session=f's{i}', pixel_size_um=0.5)
        )
    for i, image in enumerate(content['images']):
        image['session'] = f's{i % 3}'
    (folder / 'tips.json').write_text(json.dumps(content), encoding='utf-8')
    return 'tips.json', 'stack.tif', dict(split='train')


class _Touch:
    """Unpickled, it leaves a file behind."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trap,)


def malicious_files(folder: Path, config: Path) -> dict[str, tuple[list[str], Path]]:
    """Write six attacks; return the command line that meets each, and the file it would leave."""
    images = folder / 'images'
    images.mkdir()
    write_rig(images, count=2)
    traps = {name: folder / f'trap {name}' for name in ('a', 'b', 'c', 'd', 'e', 'f')}
    touch = {
        name: f"__import__('pathlib').Path({str(trap)!r}).touch()" for name, trap in traps.items()
    }

    broken = folder / 'broken run'
    broken.mkdir()
    text = f'x = {touch["b"]}'
    states = {
        folder / 'a.pth': dict(model=_Touch(traps['a'])),
        broken / 'iter_1.pth': dict(meta=dict(config=text), model={}, config=text),
    }
    for path, state in states.items():
        torch.save(state, path)
        path.with_name(path.name + '.sha256').write_text(
            f'{sha256_of(path)}  {path.name}\n', encoding='utf-8'
        )
    (folder / 'c.yaml').write_text(
        f'x: !!python/object/apply:pathlib.Path.touch [{traps["c"]}]\n', encoding='utf-8'
    )
    (images / 'd.pkl').write_bytes(f"cos\nsystem\n(S'touch {traps['d']}'\ntR.".encode())  # a pickle
    (folder / 'trap_e.py').write_text(f'{touch["e"]}\n', encoding='utf-8')
    imports = dict(custom_imports=dict(imports=['trap_e'], allow_failed_imports=False))
    (folder / 'e.json').write_text(json.dumps(imports), encoding='utf-8')
    hosts = dict(id=1, file_name='/etc/hostname')
    (images / 'f.json').write_text(
        json.dumps(dict(images=[hosts], annotations=[])), encoding='utf-8'
    )

    own = [str(config), '--work-dir', str(folder / 'run')]
    data = ['test', *own, '--data', str(images), '--strict', '--annotations']
    resumed = ['train', str(config), '--work-dir', str(broken), '--resume']
    return {
        'pickled checkpoint': (['test', *own, '--checkpoint', str(folder / 'a.pth')], traps['a']),
        'config in a checkpoint': (resumed, traps['b']),
        'tag in a YAML config': (['latency', str(folder / 'c.yaml')], traps['c']),
        'pickled annotations': ([*data, 'd.pkl'], traps['d']),
        'imports of a JSON config': (['latency', str(folder / 'e.json')], traps['e']),
        'absolute path': ([*data, 'f.json'], traps['f']),
    }
