"""What other systems do otherwise than Linux, stood in for here: nothing of this ran on them."""

import ast
import io
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from pipedet.cli import main
from pipedet.datasets import PipetteImages, SyntheticPipettes
from pipedet.datasets.base import begin_worker
from pipedet.engine.checkpoint import load_weights, save_weights
from pipedet.visualization import write_picture

ROOT = Path(__file__).parent.parent
TINY = ROOT / 'configs' / '_base_' / 'tiny.py'


def _opens_text_without_encoding(call):
    name = getattr(call.func, 'attr', getattr(call.func, 'id', ''))
    binary = any(isinstance(arg, ast.Constant) and 'b' in str(arg.value) for arg in call.args[:2])
    reads = name in ('read_text', 'write_text') or (name == 'open' and not binary)
    foreign = ast.unparse(call.func) in ('os.open', 'Image.open')
    return reads and not foreign and all(key.arg != 'encoding' for key in call.keywords)


def test_every_text_file_names_its_encoding():
    # On Windows the default is that of the country.
    faults = [
        f'{path.relative_to(ROOT)}:{node.lineno}'
        for folder in ('pipedet', 'tools', 'tests', 'benchmarks')
        for path in (ROOT / folder).rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Call) and _opens_text_without_encoding(node)
    ]
    assert not faults


def test_a_run_whose_processes_are_not_forked(tmp_path):
    # As on a Mac; on Windows all are. What they are sent has to be pickled.
    script = tmp_path / 'train.py'
    script.write_text(
        'import sys\n'
        'from pipedet.cli import main\n'
        'from pipedet.engine import runner\n'
        "runner.START_METHOD = 'spawn'\n"
        "if __name__ == '__main__':\n"
        '    main(sys.argv[1:])\n',
        encoding='utf-8',
    )
    folder = tmp_path / 'run'
    command = [sys.executable, script, 'train', TINY, '--work-dir', folder, '--no-test']
    options = ('train_dataloader.num_workers=1', 'val_dataloader.num_workers=1')
    done = subprocess.run(
        [*map(str, command), '--cfg-options', *options],
        capture_output=True, text=True, encoding='utf-8', timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / 'model.safetensors').is_file()


def test_kept_images_are_not_sent():
    data = SyntheticPipettes(recipes={'standard': 1.0}, length=2, pipeline=[], seed=5, keep=2)
    bare = len(pickle.dumps(data))
    image = data.load(0, np.random.default_rng(0))['image']
    assert len(pickle.dumps(data)) == bare < image.nbytes
    sent = pickle.loads(pickle.dumps(data))  # draws the same ones
    assert np.array_equal(sent.load(0, np.random.default_rng(0))['image'], image)


def test_workers_leave_ctrl_c_to_the_main_process():
    before = signal.getsignal(signal.SIGINT)
    asked = []
    try:
        begin_worker(3, then=asked.append)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN and asked == [3]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_file_that_is_held_for_a_moment_is_replaced_all_the_same(tmp_path, monkeypatch):
    replace, refused = os.replace, []

    def held(source, target):
        if len(refused) < 3:
            refused.append(target)
            raise PermissionError(13, 'used by another process', str(target))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', held)
    path = tmp_path / 'model.safetensors'
    save_weights(path, nn.Linear(2, 2))
    load_weights(path, nn.Linear(2, 2))
    assert len(refused) == 3 and len(list(tmp_path.iterdir())) == 2


def test_a_digest_as_windows_writes_it(tmp_path):
    path = tmp_path / 'model.safetensors'
    save_weights(path, nn.Linear(2, 2))
    note = path.with_name('model.safetensors.sha256')
    digest = note.read_text(encoding='utf-8')[:64].upper()
    for encoding in ('utf-8', 'utf-8-sig', 'utf-16'):
        note.write_text(f'SHA256  {digest}  C:\\a.safetensors\r\n', encoding=encoding)
        load_weights(path, nn.Linear(2, 2))
    save_weights(path, nn.Linear(2, 2))


def test_names_that_the_console_has_no_letters_for(tmp_path, monkeypatch):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / '5 \u03bcm.png').write_bytes(b'')
    console = io.TextIOWrapper(io.BytesIO(), encoding='cp1252')
    monkeypatch.setattr(sys, 'stderr', console)
    with pytest.raises(SystemExit, match='1'):
        main(['predict', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')])
    console.flush()
    assert b'5 \\u03bcm.png' in console.buffer.getvalue()


def test_results_that_are_open_in_a_spreadsheet_are_not_lost(tmp_path, monkeypatch):
    write_picture(tmp_path / 'a.png', np.zeros((64, 64), np.uint8))
    command = ['predict', str(tmp_path / 'a.png'), '--out', str(tmp_path / 'out'), '--overwrite']
    main(command)
    before = {p: p.read_bytes() for p in (tmp_path / 'out').rglob('*') if p.is_file()}
    opened = Path.open

    def locked(path, *args, **kwargs):
        if path.name == 'frames.csv':
            raise PermissionError(13, 'used by another process')
        return opened(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'open', locked)
        with pytest.raises(SystemExit, match='frames.csv cannot be replaced'):
            main(command)
    assert before == {p: p.read_bytes() for p in (tmp_path / 'out').rglob('*') if p.is_file()}


def test_a_folder_is_called_as_it_spells_itself(tmp_path, monkeypatch):
    write_picture(tmp_path / 'Images' / 'a.png', np.zeros((64, 64), np.uint8))
    write_picture(tmp_path / 'Images' / 'b.png', np.ones((64, 64), np.uint8))
    rows = 'image,x,y\nImages/a.png,3,4\n'
    (tmp_path / 'tips.csv').write_text(rows, encoding='utf-8')
    is_dir = Path.is_dir
    # A disk that does not tell capitals from small letters.
    monkeypatch.setattr(Path, 'is_dir', lambda p: p.name == 'images' or is_dir(p))
    data = PipetteImages(
        root=tmp_path, annotations='tips.csv', pipeline=[], seed=0, subset='own', image_folder=None
    )
    assert [len(record.tips) for record in data.records] == [1, 0]
