"""The three test sets, fixed before any model was trained: 500 scenes each.

The scenes are drawn again on every machine; the committed manifests hold what they must come out as
(tips, CNR, mean brightness). If the engine drifts, loading says so instead of moving the goalposts.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np

from pipedet.synthesis.render import render
from pipedet.synthesis.stream import LabelledScene, draw_scene

FROZEN_SETS = ('clear', 'standard', 'starved')
SEED = 20250401  # no other dataset may use it
COUNT = 500


class FrozenSetError(RuntimeError):
    """A frozen scene came out other than its manifest says."""


def frozen_scene(name: str, index: int) -> tuple[LabelledScene, np.ndarray]:
    """Return scene `index` of a frozen set, checked against its manifest, and the tips' CNR."""
    row = _manifest(name)[index]
    drawn = draw_scene(name, seed=SEED, epoch=0, index=index)
    tips = np.array(row['tips'], np.float32).reshape(-1, 2)
    mean = float(render(drawn.scene).mean())
    if drawn.tips.shape != tips.shape or not (
        np.allclose(drawn.tips, tips, atol=2e-3) and np.isclose(mean, row['mean'], rtol=1e-3)
    ):
        raise FrozenSetError(
            f'scene {index} of the frozen set {name!r} has changed: tips {drawn.tips.tolist()}, '
            f'mean {mean:.4f}; the manifest says {row}. Results on it would not compare: restore '
            'the scene engine, or freeze new sets under a new name.'
        )
    return drawn, np.array(row['cnr'], np.float32)


def describe_frozen(name: str) -> list[dict]:
    """Return the rows a manifest of this set has to hold, drawn afresh."""
    rows = []
    for index in range(COUNT):
        drawn = draw_scene(name, seed=SEED, epoch=0, index=index)
        mean = float(render(drawn.scene).mean())
        rows.append(
            dict(
                tips=np.round(drawn.tips.numpy().astype(float), 3).tolist(),
                cnr=np.round(drawn.cnr.numpy().astype(float), 3).tolist(),
                mean=round(mean, 5),
            )
        )
    return rows


def manifest_path(name: str) -> Path:
    """Return where a set's manifest is committed."""
    return Path(__file__).with_name('frozen') / f'{name}.json'


@cache
def _manifest(name: str) -> list[dict]:
    if name not in FROZEN_SETS:
        raise ValueError(f'no frozen set named {name!r}; there are {", ".join(FROZEN_SETS)}')
    return json.loads(manifest_path(name).read_text(encoding='utf-8'))['scenes']
