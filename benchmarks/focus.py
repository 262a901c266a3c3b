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
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from tables import rewrite

from pipedet.formats import read_image
from pipedet.synthesis import draw_scene
from pipedet.synthesis.backgrounds import SIZE
from pipedet.synthesis.recipes import REFERENCE_UM
from pipedet.visualization import write_picture

HERE = Path(__file__).parent
SEED = 81
RECIPES = ('brightfield', 'diffraction')
HALF = 36  # of the field, reference pixels
TURNS = np.radians((-6.0, -3.0, 0.0, 3.0, 6.0))  # the real shafts come from the right, nearly
BANDS = {
    'below -4 um': (-99, -4.5),
    '-4 to 4 um': (-4.5, 4.5),
    'above 4 um': (4.5, 99),
    'all': (-99, 99),
}
SHOWN = -8, -4, 0, 4, 8  # heights of the picture, um
CONTRAST = 18  # standard deviation of the picture, grey levels


def main(real: Path, scenes: int) -> None:
    """Compare and write."""
    images = list(real_fields(real))
    fields, heights, stacks = (np.array(part) for part in zip(*images, strict=True))
    compared, pictures = {}, []
    for recipe in RECIPES:
        bank, bank_heights = scene_fields(recipe, scenes)
        alike = fields.reshape(len(fields), -1) @ bank.reshape(len(bank), -1).T
        best = alike.argmax(axis=1)
        few = alike[:, : len(bank) // 4]
        compared[recipe] = dict(
            correlation=alike.max(axis=1),
            of_a_quarter=few.max(axis=1),
            height_error=np.abs(bank_heights[best] - heights),
            height_error_by_chance=np.abs(bank_heights - heights[:, None]).mean(axis=1),
        )
        shown = [np.flatnonzero((stacks == stacks[0]) & (heights == z)) for z in SHOWN]
        pictures.append(np.hstack([bank[best[i]] for found in shown for i in found]))
    bands = {
        band: _medians(compared, stacks, (heights > low) & (heights < high))
        for band, (low, high) in BANDS.items()
    }
    found = dict(
        set=real.resolve().name,
        stacks=len(set(stacks)),
        scenes=scenes,
        seed=SEED,
        date=datetime.date.today().isoformat(),
        bands=bands,
    )
    (HERE / 'results' / 'focus.json').write_text(
        json.dumps(found, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'focus', to_markdown(found))
    picture = np.clip(128 + CONTRAST * 2 * HALF * np.vstack(pictures), 0, 255).astype(np.uint8)
    write_picture(HERE / 'pictures' / 'focus.jpg', cv2.resize(picture, None, fx=2, fy=2))


def _medians(compared: dict, stacks: np.ndarray, inside: np.ndarray) -> dict:
    """Return the medians over images, and of the correlation those of each stack, ends alone."""
    row = dict(images=int(inside.sum()))
    for recipe, values in compared.items():
        row[recipe] = {key: float(np.median(value[inside])) for key, value in values.items()}
        each = [
            np.median(values['correlation'][inside & (stacks == stack)])
            for stack in np.unique(stacks[inside])
        ]
        row[recipe]['stacks'] = [float(min(each)), float(max(each))]
    return row


def real_fields(folder: Path) -> Iterator[tuple[np.ndarray, float, str]]:
    """Yield the field, the height and the stack of each real image that has a height."""
    labels = json.loads((folder / 'annotations.json').read_text(encoding='utf-8'))
    tips = {one['image_id']: one['keypoints'][:2] for one in labels['annotations']}
    for image in labels['images']:
        if image.get('z_um') is not None:
            pixels = read_image(folder / 'images' / image['file_name'])
            unit = REFERENCE_UM / image['pixel_size_um']
            yield cut(pixels, tips[image['id']], 0.0, unit), image['z_um'], image['scene']


def scene_fields(recipe: str, scenes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fields (N, side, side) of scenes of one pipette, a few turns of each, and heights.

    A session has eight scenes, of which one is taken, if no field of it leaves the frame.
    """
    fields, heights = [], []
    for index in count(0, 8):
        if len(fields) == scenes * len(TURNS):
            return np.stack(fields), np.array(heights)
        drawn = draw_scene(recipe, seed=SEED, epoch=0, index=index)
        unit = REFERENCE_UM / float(drawn.scene.pixel_size_um[0])
        reach = 2**0.5 * HALF * unit
        tips = drawn.tips.numpy()
        if len(tips) != 1 or not ((tips > reach) & (tips < SIZE - 1 - reach)).all():
            continue
        k = int(drawn.labelled.nonzero())
        image, angle = drawn.capture(), float(drawn.scene.pipettes.angle[0, k])
        fields += [cut(image, tips[0], angle + turn, unit) for turn in TURNS]
        heights += [float(drawn.scene.pipettes.z_um[0, k])] * len(TURNS)


def cut(image: np.ndarray, tip: Sequence[float], angle: float, unit: float) -> np.ndarray:
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
        f'{found["set"]} (real, {found["stacks"]} stacks), {found["scenes"]} scenes of each '
        f'recipe, seed {found["seed"]}; {found["date"]}. Medians over images, in brackets the ends '
        'of those of single stacks.',
        '',
        '| height | images | scenes | correlation of the likest | of a quarter of the scenes | its '
        'height off by, um | a scene by chance |',
        '|---|---|---|---|---|---|---|',
    ]
    for band, row in found['bands'].items():
        for recipe in RECIPES:
            one = row[recipe]
            lines.append(
                f'| {band} | {row["images"]} | `{recipe}` | {one["correlation"]:.2f} '
                f'({one["stacks"][0]:.2f} to {one["stacks"][1]:.2f}) | {one["of_a_quarter"]:.2f} | '
                f'{one["height_error"]:.1f} | {one["height_error_by_chance"]:.1f} |'
            )
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('real', type=Path, help='folder of images with heights, annotations.json')
    parser.add_argument('--scenes', type=int, default=300, help='of each recipe [%(default)s]')
    args = parser.parse_args()
    main(args.real, args.scenes)
