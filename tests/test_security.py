"""Nothing in the package can run code that came with data: the syntax tree is walked for it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(p for d in ('pipedet', 'tools', 'benchmarks') for p in (ROOT / d).rglob('*.py'))
FORBIDDEN_IMPORTS = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve'}
FORBIDDEN_CALLS = {'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'yaml.load'}


def offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = [node.module or ''] if isinstance(node, ast.ImportFrom) else names
            found += [name for name in names if name.split('.')[0] in FORBIDDEN_IMPORTS]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            options = {k.arg: getattr(k.value, 'value', None) for k in node.keywords}
            if name in FORBIDDEN_CALLS or options.get('shell'):
                found.append(name)
            if name == 'torch.load' and options.get('weights_only') is not True:
                found.append('torch.load without weights_only=True')
            if name in ('np.load', 'numpy.load') and options.get('allow_pickle'):
                found.append('numpy.load with allow_pickle')
    return found


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_file_can_run_data(path):
    assert offences(path.read_text(encoding='utf-8')) == []


@pytest.mark.parametrize(
    'planted',
    [
        'import pickle',
        'from pickle import loads',
        'eval(text)',
        'import torch\ntorch.load(path)',
        'torch.load(path, weights_only=False)',
        'subprocess.run(text, shell=True)',
        'yaml.load(text, Loader=yaml.Loader)',
        'np.load(path, allow_pickle=True)',
    ],
)
def test_the_walk_finds_what_is_planted(planted):
    assert offences(planted)
