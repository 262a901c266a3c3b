"""Files of weights and of training state: written whole or not at all, read without running code.

Checkpoints to resume from hold tensors, numbers and strings only, so that torch's `weights_only`
loader reads them with nothing allowed beyond its defaults. Weights to use are safetensors.
"""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` durably: a crash leaves the old file or the new one, never a part of it."""
    partial = path.with_suffix('.part')
    with open(partial, 'wb') as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint to resume from; nothing in it can run."""
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged zip, a pickle with code: torch raises many kinds
        raise RuntimeError(
            f'cannot resume from {path}: {error}. Remove the file to resume from the one before, '
            'or the run folder to start again'
        ) from error


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run folder."""
    found = sorted(folder.glob('epoch_*.pth'), key=lambda p: int(p.stem.split('_')[1]))
    return found[-1] if found else None


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights alone, as safetensors."""
    state = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    partial = path.with_suffix('.part')
    save_file(state, partial)
    os.replace(partial, path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Load weights from a .safetensors file or from a checkpoint of this package.

    Raises:
        RuntimeError: the file cannot be read, or is of another model; it names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'no weights at {path}: train first (pipedet train CONFIG) or give --checkpoint'
        )
    if path.suffix == '.safetensors':
        try:
            state = load_file(path)
        except Exception as error:  # SafetensorError is not exported by every version
            raise RuntimeError(f'cannot read weights from {path}: {error}') from error
    else:
        state = load_checkpoint(path)['model']
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        text = str(error)
        raise RuntimeError(
            f'{path} holds weights of another model than the config says: {text[:600]}'
        ) from error
