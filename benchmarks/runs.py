"""What the scripts of this folder have to know of runs."""

from pathlib import Path

from pipedet.evaluation import read_records


def name_of(run: Path) -> str:
    """Name a run by its folder; a calibrated one by the folder above."""
    return run.parent.name if run.name == 'calibrated' else run.name


def tests_of(runs: list[Path], subset: str) -> dict[str, dict]:
    """Return the records of runs' tests on a set, by the run's name, then by the image's source.

    Raises:
        ValueError: two runs have one name.
    """
    names = [name_of(run) for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f'runs are told apart by their folders: rename one of {names}')
    return {
        name: {
            record.source: record
            for record in read_records(run / 'test' / 'records.json')
            if record.subset == subset
        }
        for name, run in zip(names, runs, strict=True)
    }
