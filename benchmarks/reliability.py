"""What goes wrong on a rig, planted on purpose: how often training and inputs come through.

    python benchmarks/reliability.py

Each experiment returns how many of its cases passed; results/reliability.json keeps them.
"""

import argparse
import datetime
import json
import tempfile
from pathlib import Path

import input_faults
import training_faults
from planted import SEED
from tables import rewrite

from pipedet.commands.common import device_name

HERE = Path(__file__).parent
RESULTS = HERE / 'results' / 'reliability.json'
EXPERIMENTS = (
    training_faults.resume,
    training_faults.fresh_draws,
    training_faults.killed_saves,
    training_faults.bad_disks,
    training_faults.not_finite,
    input_faults.grey_levels,
    input_faults.huge_image,
    input_faults.corrupt_files,
    input_faults.annotation_faults,
    input_faults.malicious_files,
    training_faults.flipped_weights,
)


def table(results: dict[str, dict]) -> str:
    """Return a row an experiment, its docstring saying what it plants."""
    rows = ['| experiment | passed | what is planted, and what has to happen |', '|---|---|---|']
    for experiment in EXPERIMENTS:
        result, text = results[experiment.__name__], experiment.__doc__.partition(': ')[2]
        rows.append(f'| `{experiment.__name__}` | {result["passed"]} of {result["of"]} | {text} |')
    return '\n'.join(rows)


def main() -> None:
    """Run all, print a line each, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--only', choices=[f.__name__ for f in EXPERIMENTS], help='print just this one'
    )
    only = parser.parse_args().only
    results = {}
    for experiment in EXPERIMENTS:
        if only in (None, experiment.__name__):
            with tempfile.TemporaryDirectory() as folder:
                own = Path(folder) / 'rig'
                own.mkdir()
                Path(folder).chmod(0o755)
                results[experiment.__name__] = result = experiment(own)
            print(f'{experiment.__name__}: {result}', flush=True)
    if only is None:
        about = dict(
            device=device_name('cpu'),
            seed=SEED,
            date=datetime.date.today().isoformat(),
        )
        RESULTS.write_text(
            json.dumps(about | dict(experiments=results), indent=1) + '\n', encoding='utf-8'
        )
        rewrite(HERE / 'README.md', 'reliability', table(results))


if __name__ == '__main__':
    main()
