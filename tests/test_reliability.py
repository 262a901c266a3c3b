"""Experiments of benchmarks/reliability.py, with fewer cases each."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / 'benchmarks'))
import input_faults
import training_faults


@pytest.mark.parametrize(
    ('experiment', 'options'),
    [
        (training_faults.fresh_draws, dict(length=8, epochs=2)),
        (training_faults.killed_saves, dict(count=3)),
        (training_faults.bad_disks, {}),
        (training_faults.not_finite, {}),
        (input_faults.grey_levels, {}),
        (input_faults.corrupt_files, dict(count=84)),
        (input_faults.annotation_faults, {}),
        (input_faults.malicious_files, {}),
        (training_faults.flipped_weights, dict(count=20)),
    ],
    ids=lambda value: getattr(value, '__name__', None),
)
def test_every_case_of_an_experiment_passes(tmp_path, experiment, options):
    own = [p for p in (tmp_path, *tmp_path.parents) if 'pytest-of-' in str(p)]
    for folder in own:
        folder.chmod(0o755)  # bad_disks works as nobody, who must get in
    result = experiment(tmp_path, **options)
    assert result['passed'] == result['of'] > 0, result
