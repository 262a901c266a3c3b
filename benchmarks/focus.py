"""How like real brightfield scenes are, at every height of a pipette.

    python benchmarks/focus.py PATH/exvivo_zstack

Round the labelled tip of each real image that has a scale and a height, and round the tips of
drawn scenes (recipe `brightfield`) and of computed ones (`diffraction`), the same field is cut out
with the shaft to the right. The likeness of an image is its best correlation with any scene of a
recipe; the height of that scene, beside the image's own, says whether a look means the same
height. Writes results/focus.json, the table between the marks in README.md and
pictures/focus.jpg, the likest scenes of one stack (real images are not copied).
"""

import argparse
import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tables import rewrite

from pipedet.formats import read_image
from pipedet.synthesis import draw_scene
from pipedet.synthesis.recipes import REFERENCE_UM
from pipedet.visualization import write_picture

HERE = Path(__file__).parent
SEED = 81
RECIPES = ('brightfield', 'diffraction')
HALF = 36  # of the field, reference pixels
TURNS = np.radians((-6.0, -3.0, 0.0, 3.0, 6.0))  # the real shafts come from the right, nearly
BANDS = {'below -4 um': (-99, -4.5), '-4 to 4 um': (-4.5, 4.5), 'above 4 um': (4.5, 99)}
SHOWN = -8, -4, 0, 4, 8  # heights of the picture, um


def main(real: Path, scenes: int) -> None:
    """Compare and write."""
    images = list(real_fields(real))
    fields = np.stack([field for field, _, _ in images])
    heights = np.array([height for _, height, _ in images])
    likest, pictures = {}, []
    for recipe in RECIPES:
        bank, bank_heights = scene_fields(recipe, scenes)
        alike = fields.reshape(len(fields), -1) @ bank.reshape(len(bank), -1).T
        best = alike.argmax(axis=1)
        likest[recipe] = dict(
            correlation=alike.max(axis=1), height_error=np.abs(bank_heights[best] - heights)
        )
        stack = images[0][2]
        row = [best[i] for z in SHOWN for i, im in enumerate(images) if im[1:] == (z, stack)]
        pictures.append(np.hstack([bank[i] for i in row]))
    rows = {
        band: dict(images=int(inside.sum()))
        | {
            recipe: {key: float(np.median(values[inside])) for key, values in one.items()}
            for recipe, one in likest.items()
        }
        for band, (low, high) in {**BANDS, 'all': (-99, 99)}.items()
        if (inside := (heights > low) & (heights < high)).any()
    }
    found = dict(
        set=real.resolve().name,
        scenes=scenes,
        seed=SEED,
        date=datetime.date.today().isoformat(),
        bands=rows,
    )
    (HERE / 'results' / 'focus.json').write_text(json.dumps(found, indent=1) + '\n')
    rewrite(HERE / 'README.md', 'focus', to_markdown(found))
    picture = np.vstack(pictures)
    picture = np.clip(128 + 36 * HALF * picture, 0, 255).astype(np.uint8)
    write_picture(HERE / 'pictures' / 'focus.jpg', cv2.resize(picture, None, fx=2, fy=2))


def real_fields(folder: Path) -> Iterator[tuple[np.ndarray, float, str]]:
    """Yield the field, the height and the stack of each real image that has a height."""
    labels = json.loads((folder / 'annotations.json').read_text())
    tips = {one['image_id']: one['keypoints'][:2] for one in labels['annotations']}
    for image in labels['images']:
        if image.get('z_um') is not None:
            pixels = read_image(folder / 'images' / image['file_name'])
            unit = REFERENCE_UM / image['pixel_size_um']
            yield cut(pixels, tips[image['id']], 0.0, unit), image['z_um'], image['scene']


def scene_fields(recipe: str, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fields (N, side, side) of scenes of one pipette, a few turns of each, and heights.

    A session has eight scenes, of which one is taken.
    """
    fields, heights = [], []
    for index in range(0, 8 * scenes, 8):
        drawn = draw_scene(recipe, seed=SEED, epoch=0, index=index)
        if len(drawn.tips) != 1:
            continue
        k = int(drawn.labelled.nonzero())
        pipettes, unit = drawn.scene.pipettes, REFERENCE_UM / float(drawn.scene.pixel_size_um[0])
        image, angle = drawn.capture(), float(pipettes.angle[0, k])
        fields += [cut(image, drawn.tips[0].tolist(), angle + turn, unit) for turn in TURNS]
        heights += [float(pipettes.z_um[0, k])] * len(TURNS)
    return np.stack(fields), np.array(heights)


def cut(image: np.ndarray, tip: list[float], angle: float, unit: float) -> np.ndarray:
    """Return the field round a tip: mean 0, norm 1, and a little blurred, as labels are by eye."""
    steps = unit * np.arange(-HALF, HALF)
    along, across = np.meshgrid(steps, steps)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, y = np.float32(np.tensordot(turn, [along, across], 1) + np.reshape(tip, (2, 1, 1)))
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), unit)
    field = cv2.remap(blurred, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    field = field - field.mean()
    return field / np.linalg.norm(field)


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'{found["set"]} (real), {found["scenes"]} scenes of each recipe, seed {found["seed"]}; '
        f'{found["date"]}. Medians.',
        '',
        '| height | images | drawn: likest scene, correlation | its height off by, um | '
        'computed: likest scene, correlation | its height off by, um |',
        '|---|---|---|---|---|---|',
    ]
    for band, row in found['bands'].items():
        cells = ' | '.join(
            f'{row[recipe]["correlation"]:.2f} | {row[recipe]["height_error"]:.1f}'
            for recipe in RECIPES
        )
        lines.append(f'| {band} | {row["images"]} | {cells} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('real', type=Path, help='folder of images with heights, annotations.json')
    parser.add_argument('--scenes', type=int, default=600, help='of each recipe [%(default)s]')
    args = parser.parse_args()
    main(args.real, args.scenes)
