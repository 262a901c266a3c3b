"""Files of weights and of training state: written whole or not at all, read without running code.

Checkpoints to resume from hold tensors, numbers and strings only, so that torch's `weights_only`
loader reads them with nothing allowed beyond its defaults. Weights to use are safetensors. Beside
each file lies its SHA-256, as `sha256sum` writes it: one flipped bit loads without complaint in
either format.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipedet.formats.digest import sha256_of
from pipedet.models.large_kernels import grow

WEIGHTS = 'model.safetensors'  # of a run that is done
RECORD = 'train.json'  # of a training that is done
_PARTIAL, _DIGEST = '.part', '.sha256'
_PATIENCE = 2.0  # s


class DamagedFileError(RuntimeError):
    """A file is not what was written, or not a checkpoint at all."""


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` durably: a crash leaves the old file or the new one, never a part of it."""
    _write_whole(path, lambda partial: torch.save(state, partial))


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint to resume from; nothing in it can run.

    Raises:
        DamagedFileError: its digest differs, or torch cannot read it.
    """
    check_digest(path)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged zip, a pickle with code: torch raises many kinds
        raise DamagedFileError(f'cannot read {path}: {error}') from error


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, newest first."""
    return sorted(folder.glob('iter_*.pth'), key=iteration_of, reverse=True)


def iteration_of(path: Path) -> int:
    """Return how many iterations were done when `iter_N.pth` was written."""
    return int(path.stem.split('_')[1])


def load_newest(folder: Path, warn: Callable[[str], None]) -> tuple[Path, dict] | None:
    """Read the newest checkpoint that is whole, and say which ones are not.

    Returns None where the run has not saved any.

    Raises:
        DamagedFileError: there are some, and none is whole.
    """
    found = checkpoints(folder)
    for path in found:
        try:
            return path, load_checkpoint(path)
        except DamagedFileError as error:
            warn(f'{error}; trying the checkpoint before')
    if found:
        raise DamagedFileError(
            f'none of the {len(found)} checkpoints in {folder} is whole: remove the folder to '
            'start again'
        )
    return None


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and its digest."""
    path.unlink()
    _digest_path(path).unlink(missing_ok=True)


def forget_result(folder: Path) -> None:
    """Remove what says that the run in `folder` is done; its checkpoints stay."""
    for path in (folder / WEIGHTS, _digest_path(folder / WEIGHTS), folder / RECORD):
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what an interrupted save left behind: partial files, digests without their file."""
    for partial in folder.glob(f'*{_PARTIAL}'):
        partial.unlink()
    for digest in folder.glob(f'*{_DIGEST}'):
        if not digest.with_name(digest.name.removesuffix(_DIGEST)).exists():
            digest.unlink()


def check_digest(path: Path) -> None:
    """Compare a file with the SHA-256 beside it.

    Raises:
        DamagedFileError: they differ, or there is none.
    """
    beside = _digest_path(path)
    if not beside.is_file():
        raise DamagedFileError(
            f'{path} has no {beside.name} beside it to tell whether it is whole: copy it too, or, '
            f'if you trust the file, write its SHA-256 into {beside.name} (sha256sum on Linux, '
            'shasum -a 256 on a Mac, (Get-FileHash FILE).Hash on Windows)'
        )
    known = beside.read_bytes().replace(b'\0', b'').decode('utf-8', 'replace').lower()  # or UTF-16
    if sha256_of(path) not in known:
        raise DamagedFileError(
            f'{path} is not the file that was written: its SHA-256 differs from {beside.name}'
        )


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target, then put file and digest in place, each in one step."""
    partial = path.with_name(path.name + _PARTIAL)
    try:
        write(partial)
        _flush_to_disk(partial)
        note = _digest_path(path)
        old = note.read_text(encoding='utf-8', errors='replace') if note.is_file() else ''
        old = old.splitlines()[:1]
        new = f'{sha256_of(partial)}  {path.name}'
        # Until the new file is in place the old one is: the note then knows both.
        _write_note(note, [new, *old])
        _put_in_place(partial, path)
        _write_note(note, [new])
    except BaseException:
        partial.unlink(missing_ok=True)  # on a full disk the space is needed
        raise
    if os.name == 'posix':  # the new names must survive a power cut as well
        _flush_to_disk(path.parent)


def _write_note(note: Path, lines: list[str]) -> None:
    partial = note.with_name(note.name + _PARTIAL)
    partial.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    _flush_to_disk(partial)
    _put_in_place(partial, note)


def _put_in_place(partial: Path, path: Path) -> None:
    """Replace a file; what Windows' virus scanner or a cloud's client holds it lets go soon."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(partial, path)
            return
        except PermissionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + _DIGEST)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights alone, as safetensors."""
    state = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    _write_whole(path, lambda partial: save_file(state, partial))


def newest_weights(folder: Path) -> Path:
    """Return the file with the newest weights of a run: what it ended with, or its checkpoint.

    Raises:
        FileNotFoundError: there are none.
    """
    done = folder / WEIGHTS
    if done.is_file():
        return done
    saved = checkpoints(folder)
    if not saved:
        raise FileNotFoundError(f'no weights in {folder}: train first')
    return saved[0]


def load_weights(path: Path, model: nn.Module) -> None:
    """Load weights from a .safetensors file or from a checkpoint of this package.

    Raises:
        RuntimeError: the file cannot be read, or is of another model; it names the file.
    """
    _load_state(path, _read_weights(path), model)


def load_grown(path: Path, model: nn.Module) -> list[str]:
    """Load weights into a model of these or more large kernels (`grow`); return the new blocks.

    Raises as `load_weights`.
    """
    state = _read_weights(path)
    new = grow(model, state)
    _load_state(path, state, model)
    return new


def load_part(path: Path, name: str, part: nn.Module) -> None:
    """Load the weights of part `name` of the model saved in `path`; raises as `load_weights`."""
    prefix = f'{name}.'
    state = {
        key.removeprefix(prefix): value
        for key, value in _read_weights(path).items()
        if key.startswith(prefix)
    }
    _load_state(path, state, part)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(
            f'no weights at {path}: train first (pipedet train CONFIG) or give --checkpoint'
        )
    if path.suffix != '.safetensors':
        saved = load_checkpoint(path)
        averaged = saved.get('hooks', {}).get('WeightAverage')
        return averaged['weights'] if averaged else saved['model']
    check_digest(path)
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError is not exported by every version
        raise DamagedFileError(f'cannot read weights from {path}: {error}') from error


def _load_state(path: Path, state: dict[str, Tensor], model: nn.Module) -> None:
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        text = str(error)
        raise RuntimeError(
            f'{path} holds weights of another model than the config says: {text[:600]}'
        ) from error
