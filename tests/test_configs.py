"""Every config builds, computes one loss and makes one prediction."""

import ast
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from pipedet.commands.common import datasets_of, set_in_images
from pipedet.registry import DATASETS, HOOKS, METRICS, MODELS

ROOT = Path(__file__).parent.parent / 'configs'
# labelled.py has no images before someone gives it a folder: test_crossval.py builds it.
ALL = sorted(p for p in ROOT.rglob('[!_]*.py') if '_base_' not in p.parts and p.stem != 'labelled')
ENHANCERS = [p for p in ALL if p.parent.name == 'enhancers']
BEADS = [p for p in ALL if p.stem.startswith('midasmap')]
CONFIGS = [p for p in ALL if p not in ENHANCERS + BEADS]


NARROW = {
    'vit_base_patch16_224': 'vit_tiny_patch16_224',
    'resnet18': 'resnet18_quarter',
    'resnet50': 'resnet50_quarter',
    'vgg16': 'vgg16_quarter',
}


def narrow(part):
    """Give networks fewer channels: at full width a step takes seconds."""
    for key, value in part.items():
        if key == 'name':
            part[key] = NARROW.get(value, value)
        elif key == 'generator':
            value.update(width=4, blocks=1)
        elif isinstance(value, dict):
            narrow(value)


def train_and_predict(config):
    """Compute one loss and its gradient; return the batch and its first prediction."""
    model = MODELS.build(config.model)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    batch = pseudo_collate([dataset[i] for i in range(2)])
    for stage in config.train_cfg.stages:
        HOOKS.build(stage.schedule)
        model.train_only(stage.parts)
    model.train()
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    total = sum(losses.values())
    total.backward()
    assert total.isfinite()
    model.eval()
    with torch.no_grad():
        sample = model.test_step(batch)[0]
    return batch, sample


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: str(p.relative_to(ROOT)))
def test_config_builds_trains_and_predicts(path):
    config = Config.fromfile(path)
    with torch.device('meta'):
        MODELS.build(config.model)  # at full width, without the memory
    narrow(config.model)
    batch, sample = train_and_predict(config)
    assert sample.pred_tips.points.shape[1] == 2
    METRICS.build(config.test_evaluator).process(batch, [sample.to_dict()])
    side = config.predict_pipeline[0].get('size', 256)
    assert DATASETS.build(config.test_dataloader.dataset)[0]['inputs'].shape == (1, side, side)


@pytest.mark.parametrize('path', ENHANCERS, ids=lambda p: p.stem)
def test_enhancer_config_builds_trains_and_enhances(path):
    config = Config.fromfile(path)
    batch, sample = train_and_predict(config)
    assert sample.enhanced.shape == batch['inputs'][0].shape[1:]
    assert 0 <= sample.enhanced.min() and sample.enhanced.max() <= 1
    metric = METRICS.build(config.test_evaluator)
    metric.process(batch, [sample.to_dict()])
    assert 0 < metric.evaluate(1)['image/ssim_before'] <= 1


@pytest.mark.parametrize('path', BEADS, ids=lambda p: p.stem)
def test_bead_config_builds_trains_and_predicts(path):
    config = Config.fromfile(path)
    with torch.device('meta'):
        MODELS.build(config.model)
    narrow(config.model)
    config.model.encoder.channels = 16
    scene = dict(micrographs=1, size=(80, 96), beads=4)
    config.train_dataloader.dataset.update(scene, patch=64)
    config.test_dataloader.dataset.update(scene)
    _, sample = train_and_predict(config)
    assert len(sample.pred_tips.kind) == len(sample.pred_tips.points)
    dataset, metric = (
        DATASETS.build(config.test_dataloader.dataset),
        METRICS.build(config.test_evaluator),
    )
    assert dataset[0]['inputs'].shape == (1, 80, 96)
    metric.process(None, [sample.to_dict()])
    assert 'kind/f1@5px' in metric.evaluate(1)


def test_a_part_can_be_named_by_a_string():
    config = Config.fromfile(ROOT / 'quickstart.py')
    config.merge_from_dict({'model.coarse.loss.type': 'pipedet.DiceLoss'})
    assert type(MODELS.build(config.model).coarse.loss_function).__name__ == 'DiceLoss'


def test_images_of_ones_own_take_the_place_of_those_of_a_config():
    config = Config.fromfile(ROOT / 'labelled.py')
    own = dict(type='pipedet.PipetteImages', root='mine', annotations='tips.csv')
    assert set_in_images(datasets_of(config), own) == 3
    sets = (
        config.train_dataloader.dataset.sets[1],
        config.val_dataloader.dataset,
        config.test_dataloader.dataset,
    )
    assert all(s.root == 'mine' and s.annotations == 'tips.csv' for s in sets)
    assert [s.split for s in sets] == ['train', 'val', 'test']
    assert set_in_images(datasets_of(Config.fromfile(ROOT / 'quickstart.py')), own) == 0


def statements(path):
    """Return what a config says itself, and whether it is a variant of one that is no base."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    read = [
        name.module or '' for part in tree.body if isinstance(part, ast.With) for name in part.body
    ]
    said = [n for n in tree.body if isinstance(n, ast.Assign | ast.Delete) or is_call(n)]
    return said, any(not name.split('.')[0].startswith('_base') for name in read)


def is_call(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


@pytest.mark.parametrize('path', [*ALL, ROOT / 'labelled.py'], ids=lambda p: p.stem)
def test_a_variant_is_a_diff_of_at_most_fifteen_lines(path):
    said, variant = statements(path)
    assert not variant or sum(n.end_lineno - n.lineno + 1 for n in said) <= 15
