"""Pictures of a test: the images whose tips were found best and worst."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from pipedet.evaluation.protocols import TipRecord, known_count
from pipedet.structures import apply_affine
from pipedet.visualization import contact_sheet, draw_tips, write_picture

PICTURES = 6  # best and worst, each


def draw_best_and_worst(
    dataset: Dataset, records: Sequence[TipRecord], subset: str, folder: Path
) -> None:
    """Draw the images of a subset whose worst tip is nearest to the truth and farthest from it."""
    own = [i for i, r in enumerate(records) if r.subset == subset and len(r.true) and not r.failed]
    own.sort(key=lambda i: known_count(records[i]).max())
    for name, chosen in (('best', own[:PICTURES]), ('worst', own[: -PICTURES - 1 : -1])):
        tiles = [draw_record(dataset[i], records[i], _worst(records[i]), zoom=2) for i in chosen]
        if tiles:
            write_picture(folder / f'{subset}_{name}.png', contact_sheet(tiles, columns=3))


def _worst(record: TipRecord) -> str:
    return f'{record.source}: worst {known_count(record).max():.1f} {record.unit}'


def draw_record(sample: dict, record: TipRecord, caption: str, zoom: int) -> np.ndarray:
    """Draw truth and prediction on the image of a sample, (zoom * H, zoom * W, 3)."""
    matrix = sample['data_samples'].matrix
    known = record.scores.argsort()[::-1][: max(len(record.true), 1)]
    shown = sorted({*known, *np.flatnonzero(record.scores >= record.score_threshold)})
    return draw_tips(
        sample['inputs'][0].numpy(),
        true=apply_affine(matrix, record.true),
        predicted=apply_affine(matrix, record.pred[shown]),
        scores=record.scores[shown],
        threshold=record.score_threshold,
        caption=caption,
        zoom=zoom,
    )
