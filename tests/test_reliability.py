"""The experiments of benchmarks/reliability.py, with fewer cases each."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / 'benchmarks'))
import reliability


@pytest.mark.parametrize(
    ('experiment', 'options'),
    [
        (reliability.fresh_draws, dict(length=8, epochs=2)),
        (reliability.killed_saves, dict(count=3)),
        (reliability.bad_disks, {}),
        (reliability.not_finite, {}),
        (reliability.grey_levels, {}),
        (reliability.corrupt_files, dict(count=84)),
        (reliability.annotation_faults, {}),
        (reliability.malicious_files, {}),
        (reliability.flipped_weights, dict(count=20)),
    ],
    ids=lambda value: getattr(value, '__name__', None),
)
def test_every_case_of_an_experiment_passes(tmp_path, experiment, options):
    own = [p for p in (tmp_path, *tmp_path.parents) if 'pytest-of-' in str(p)]
    for folder in own:
        folder.chmod(0o755)  # bad_disks works as nobody, who must get in
    result = experiment(tmp_path, **options)
    assert result['passed'] == result['of'] > 0, result
