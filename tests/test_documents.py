"""What the documents show is whole: no placeholder is left, and every config in them builds."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pipedet.commands.train import prepare_seeds
from pipedet.registry import MODELS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / 'README.md', ROOT / 'benchmarks/README.md', *(ROOT / 'docs').glob('*.md')]
SEEDED = [
    (config, int(seed))
    for path in DOCUMENTS
    for config, seed in re.findall(
        r'train(?:\.py)? (configs/\S+\.py)(?: [^`\n]*)? --seed (\d+)',
        path.read_text(encoding='utf-8').replace('\\\n', ' '),
    )
]
BLOCKS = [
    (path.name, block)
    for path in DOCUMENTS
    for block in re.findall(r'```python\n(.*?)```', path.read_text(encoding='utf-8'), re.DOTALL)
    if 'read_base' in block
]


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda p: p.name)
def test_no_placeholder_is_left_and_every_link_leads_somewhere(path):
    text = path.read_text(encoding='utf-8')
    assert not re.findall(r'@[A-Z_0-9]+@', text)
    links = re.findall(r'\]\(([^)#\s]+)', text)
    missing = [x for x in links if '://' not in x and not (path.parent / x).exists()]
    assert not missing


@pytest.mark.parametrize(('name', 'block'), BLOCKS, ids=range(len(BLOCKS)))
def test_every_config_shown_builds(tmp_path, name, block):
    # Configs name each other relative to their folder.
    for path in (ROOT / 'configs').rglob('*.py'):
        copy = tmp_path / path.relative_to(ROOT / 'configs')
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / 'shown.py').write_text(block, encoding='utf-8')
    assert len(block.splitlines()) <= 20
    with torch.device('meta'):
        MODELS.build(Config.fromfile(tmp_path / 'shown.py').model)


@pytest.mark.parametrize(('config', 'seed'), sorted(set(SEEDED)))
def test_every_seed_shown_may_be_trained_with(config, seed):
    prepare_seeds(Config.fromfile(ROOT / config), seed)
