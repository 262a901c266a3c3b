"""What the scripts of this folder have to know of runs."""

from pathlib import Path


def name_of(run: Path) -> str:
    """Name a run by its folder; a calibrated one by the folder above."""
    return run.parent.name if run.name == 'calibrated' else run.name
