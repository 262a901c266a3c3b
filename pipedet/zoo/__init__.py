"""Trained models that come with the package: a folder each.

`config.json` holds the model and what happens to an image before it, as data; `model.safetensors`
the weights, beside it their SHA-256; `card.md` says what they were trained on, what they reach, and
where they fail. `benchmarks/zoo.py` writes all of them.
"""

import json
from pathlib import Path

from mmengine.config import Config

from pipedet.apis import TipLocaliser
from pipedet.engine.checkpoint import WEIGHTS

HERE = Path(__file__).parent
CONFIG, CARD = 'config.json', 'card.md'


def names() -> list[str]:
    """Return the names of the models."""
    return sorted(path.parent.name for path in HERE.glob(f'*/{CONFIG}'))


def weights_of(name: str) -> Path:
    """Return the weights of a model of the zoo; any other name is taken as a file's own."""
    return HERE / name / WEIGHTS if name in names() else Path(name)


def load_model(name: str, device: str = 'cpu', **rules: float | None) -> TipLocaliser:
    """Return a model of the zoo.

    Args:
        name: of the model.
        device: 'cpu' or 'cuda'.
        rules: `max_tips`, `threshold` and `min_confidence` of `TipLocaliser`.

    Raises:
        ValueError: there is none of this name; it says which there are.
    """
    if name not in names():
        raise ValueError(f'no model named {name!r} comes with pipedet; there are {names()}')
    folder = HERE / name
    config = Config(json.loads((folder / CONFIG).read_text(encoding='utf-8')))
    return TipLocaliser(config, folder / WEIGHTS, device, **rules)


def test_config(name: str) -> Config:
    """Return a config that tests a model of the zoo on the frozen sets, at its own resolution."""
    own = json.loads((HERE / name / CONFIG).read_text(encoding='utf-8'))
    pipeline = own['predict_pipeline']
    sets = [
        dict(type='pipedet.FrozenPipettes', subset=subset, pipeline=pipeline)
        for subset in ('clear', 'standard', 'starved')
    ]
    return Config(
        dict(
            own,
            default_scope=None,
            default_hooks=dict(param_scheduler=None, checkpoint=None),
            randomness=dict(seed=0),
            test_dataloader=dict(
                batch_size=8,
                num_workers=0,
                sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
                dataset=dict(type='pipedet.JointPipettes', sets=sets),
            ),
            test_evaluator=dict(type='pipedet.TipMetric'),
            test_cfg=dict(type='mmengine.TestLoop'),
        ),
        cfg_text=f'# {name}, as it comes with pipedet',
        filename=f'{name}.py',
    )
