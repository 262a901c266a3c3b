"""What a teacher is worth to a small network: tipnet_n with and without one, in the same time.

    python benchmarks/teacher.py --work-dir work_dirs/teacher --budget 15m

Judged on scenes of the validation's stream, never on a frozen set. Those that are trained already
are only judged. Writes results/teacher.json and the table between the marks in README.md.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

from parts import KEYS, judge
from tables import rewrite

from pipedet.engine.cpu import tune_cpu

HERE = Path(__file__).parent
CONFIG = HERE.parent / 'configs' / 'tipnet_n.py'
SEED = 61
# Name -> options of `pipedet train`.
TRAINED = {'labels alone': ['teacher=None'], 'labels and tipnet_s': ['teacher.name=tipnet_s']}


def main(work_dir: Path, budget: str, judged: int) -> None:
    """Train what is not trained yet, judge both, and write."""
    tune_cpu()
    rows = {}
    for name, options in TRAINED.items():
        run = work_dir / name.replace(' ', '_')
        if not (run / 'model.safetensors').is_file():
            _train(run, budget, options)
        record = json.loads((run / 'train.json').read_text(encoding='utf-8'))
        own = dict(images=record['samples_seen'], minutes=record['train_s'] / 60)
        rows[name] = own | judge(run, judged)
    found = dict(
        config=CONFIG.name,
        judged=judged,
        device=record['device'],
        seed=SEED,
        date=datetime.date.today().isoformat(),
        learned_from=rows,
    )
    (HERE / 'results' / 'teacher.json').write_text(
        json.dumps(found, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'teacher', to_markdown(found))


def _train(run: Path, budget: str, options: list[str]) -> None:
    command = [sys.executable, '-m', 'pipedet', 'train', str(CONFIG), '--work-dir', str(run)]
    command += ['--budget', budget, '--no-test', '--seed', str(SEED)]
    scenes = f'train_dataloader.dataset.seed={SEED}'
    options = [scenes, 'train_cfg.val_interval=2', *options]  # less of the time for validation
    subprocess.run([*command, '--cfg-options', *options], check=True)


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'{found["config"]}, seed {found["seed"]}, judged on {found["judged"]} scenes of the '
        f'validation stream; synthetic; {found["device"]}; {found["date"]}.',
        '',
        '| learned from | images | min | within 3 um, % | 5 | 10 (95 %) | CNR >= 1: 3 | 5 | 10 |',
        '|---' * 9 + '|',
    ]
    for name, row in found['learned_from'].items():
        low, high = row['interval']
        three, five, ten = (row['all'][key] for key in KEYS[:3])
        seen = ' | '.join(f'{row["seen"][key]:.1f}' for key in KEYS[:3])
        lines.append(
            f'| {name} | {row["images"]} | {row["minutes"]:.0f} | {three:.1f} | {five:.1f} | '
            f'{ten:.1f} ({low:.1f} to {high:.1f}) | {seen} |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--budget', default='15m', help='of each training [%(default)s]')
    parser.add_argument('--judged', type=int, default=500, help='scenes to judge on [%(default)s]')
    args = parser.parse_args()
    main(args.work_dir, args.budget, args.judged)
