"""Pictures to look at: tips drawn on images, contact sheets, training curves."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np

matplotlib.use('Agg')  # pictures are files here; a cluster node has no screen
import matplotlib.pyplot as plt  # noqa: E402

TRUE, PREDICTED, DOUBTED = (80, 220, 80), (60, 60, 255), (0, 200, 255)  # BGR


def to_display(image: np.ndarray) -> np.ndarray:
    """Stretch an image of any depth between its 0.5 and 99.5 percentile, (H, W, 3) uint8."""
    low, high = np.percentile(image, (0.5, 99.5))
    grey = (image.astype(np.float32) - low) / max(high - low, 1e-6)
    return cv2.cvtColor((grey.clip(0, 1) * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)


def draw_tips(
    image: np.ndarray,
    *,
    true: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    caption: str,
    zoom: int,
) -> np.ndarray:
    """Draw tips on a copy, `zoom` times as large: truth green rings, predictions red crosses.

    Candidates below the threshold are yellow, without their score. Points are (x, y) pixels of
    `image`.
    """
    canvas = cv2.resize(to_display(image), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    unit = max(zoom, round(min(canvas.shape[:2]) / 256))  # in large pictures marks are larger too
    letters = max(1.0, 0.6 * min(canvas.shape[:2]) / 256)
    line = max(1, round(letters / 2))

    def place(point: np.ndarray) -> tuple[int, int]:
        x, y = (np.asarray(point, float) + 0.5) * zoom - 0.5
        return round(float(x)), round(float(y))

    for point in true:
        cv2.circle(canvas, place(point), 6 * unit, TRUE, line, cv2.LINE_AA)
    for point, score in zip(predicted, scores, strict=True):
        colour = PREDICTED if score >= threshold else DOUBTED
        cv2.drawMarker(canvas, place(point), colour, cv2.MARKER_TILTED_CROSS, 7 * unit, line)
        if score >= threshold:
            x, y = place(point)
            _write(canvas, f'{score:.2f}', (x + 5 * unit, y - 4 * unit), colour, letters)
    _write(canvas, caption, (6, round(16 * letters)), (255, 255, 255), letters)
    return canvas


def contact_sheet(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Lay tiles out in rows; smaller ones are padded to the largest."""
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    padded = [np.pad(t, ((0, height - t.shape[0]), (0, width - t.shape[1]), (0, 0))) for t in tiles]
    padded += [np.zeros_like(padded[0])] * (-len(padded) % columns)
    rows = [np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)]
    return np.vstack(rows)


def enhancement_grid(triples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return rows of input, output, target and output - target (grey: none), all (H, W) in [0, 1].

    One scale of grey levels for all: what was not restored should show.
    """
    tiles = []
    for noisy, enhanced, clean in triples:
        difference = 0.5 + (enhanced - clean)
        for title, image in zip(
            ('input', 'output', 'target', 'difference'),
            (noisy, enhanced, clean, difference),
            strict=True,
        ):
            grey = np.round(255 * image.clip(0, 1)).astype(np.uint8)
            zoom = max(1, round(192 / max(grey.shape)))
            grey = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
            tile = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
            _write(tile, title, (6, 16), (255, 255, 255))
            tiles.append(np.pad(tile, ((0, 2), (0, 2), (0, 0))))
    return contact_sheet(tiles, columns=4)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a PNG or JPEG; paths with any characters work, on Windows too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def plot_curves(work_dir: Path, out: Path) -> None:
    """Plot losses and validation accuracy of a run, its resumed parts included."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    rows = [
        json.loads(line) for log in logs for line in log.read_text(encoding='utf-8').splitlines()
    ]
    train = [row for row in rows if any(key.endswith('lr') for key in row)]
    val = [row for row in rows if row not in train and 'loss' in row]
    # Validations are logged by epoch: place them at the training step that came before.
    steps = {row['epoch']: row['step'] for row in train}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout='constrained')
    left.semilogy([r['step'] for r in train], [r['loss'] for r in train], label='training')
    at = [steps.get(row['step'], row['step']) for row in val]
    left.semilogy(at, [row['loss'] for row in val], 'o-', label='validation')
    left.set(xlabel='step', ylabel='loss')
    left.legend()
    for threshold in (3, 5, 10):
        key = f'tip/acc@{threshold}um'
        right.plot(at, [row.get(key, np.nan) for row in val], 'o-', label=f'within {threshold} um')
    right.set(xlabel='step', ylabel='validation tips, %', ylim=(0, 100))
    right.legend()
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _write(
    canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple, letters: float = 1.0
) -> None:
    font, line = (cv2.FONT_HERSHEY_SIMPLEX, 0.42 * letters), max(1, round(letters))
    (width, height), below = cv2.getTextSize(text, *font, line)
    x, y = max(2, min(at[0], canvas.shape[1] - width - 2)), max(at[1], height + 2)  # all of it seen
    patch = canvas[y - height - 2 : y + below, x - 2 : x + width + 2]
    patch //= 3  # a shade behind the letters, whatever the image
    cv2.putText(canvas, text, (x, y), *font, colour, line, cv2.LINE_AA)
