"""What more training is worth: accuracy over images seen, of runs that went on from one another.

    python benchmarks/learning.py work_dirs/tipnet_s --after OLD.json --beside OTHER.json

Reads what each run wrote while it trained; every RUN began with the weights of the one before it,
the first with those of the last in the results that it comes after, if it does. Other results can
be drawn beside them.
The scenes are those of the validation stream, all tips, known count. Writes
results/learning_NAME.json and pictures/learning_NAME.png, NAME being the last run's.
"""

import argparse
import datetime
import json
from pathlib import Path

import matplotlib.pyplot as plt
from mmengine.config import Config

from pipedet.commands.common import device_name
from pipedet.engine.checkpoint import checkpoints, load_checkpoint

HERE = Path(__file__).parent
RADII = (3, 5, 10)
AGAINST = dict(images='images seen', hours='hours of training')


def main(runs: list[Path], after: Path | None, beside: Path | None) -> None:
    """Collect, write and plot."""
    known = (
        json.loads(after.read_text(encoding='utf-8')) if after else dict(runs=[], validations=[])
    )
    if again := {run.name for run in runs} & set(known['runs']):
        raise ValueError(f'{after} holds {again} already: rename the folder of another run')
    rows = known['validations']
    seen, hours = (rows[-1]['images'], rows[-1]['hours']) if rows else (0, 0.0)
    for run in runs:
        own, images, seconds = _validations(run)
        rows += [
            row | dict(run=run.name, images=seen + row['images'], hours=hours + row['hours'])
            for row in own
        ]
        seen, hours = seen + images, hours + seconds / 3600
    found = dict(
        runs=[*known['runs'], *(run.name for run in runs)],
        device=device_name('cpu'),
        date=datetime.date.today().isoformat(),
        validations=rows,
    )
    name = runs[-1].name
    (HERE / 'results' / f'learning_{name}.json').write_text(
        json.dumps(found, indent=1) + '\n', encoding='utf-8'
    )
    other = json.loads(beside.read_text(encoding='utf-8'))['validations'] if beside else []
    _plot(rows, other, HERE / 'pictures' / f'learning_{name}.png')
    for row in rows:
        print(row)


def _validations(run: Path) -> tuple[list[dict], int, float]:
    """Return a row a validation, and how many images and seconds the whole run took."""
    loader = Config.fromfile(run / 'config.py').train_dataloader
    epoch = loader.dataset.length // loader.batch_size * loader.batch_size
    record = run / 'train.json'
    if record.is_file():
        ended = json.loads(record.read_text(encoding='utf-8'))
        images, seconds = ended['samples_seen'], ended['train_s']
    else:  # stopped, to go on some other time
        loop = load_checkpoint(checkpoints(run)[0])['loop']
        images = loop['iter'] * loader.batch_size
        seconds = sum(stage['elapsed_s'] for stage in loop['stages'])
    logs = [path for path in sorted(run.glob('*/vis_data/scalars.json')) if path.stat().st_size]
    lines = [
        json.loads(line) for path in logs for line in path.read_text(encoding='utf-8').splitlines()
    ]
    rows = []
    for line in lines:
        if 'tip/acc@10um' in line:
            at = min(line['step'] * epoch, images)  # the last epoch may have been cut short
            shares = {f'acc@{radius}um': line[f'tip/acc@{radius}um'] for radius in RADII}
            rows.append(dict(images=at, hours=seconds / 3600 * at / images, **shares))
    return rows, images, seconds


def _plot(rows: list[dict], other: list[dict], path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout='constrained', sharey=True)
    for axes, (key, label) in zip(panels, AGAINST.items(), strict=True):
        for i, radius in enumerate(RADII):
            for validations, style in ((rows, '.-'), (other, ':')):
                axes.plot(
                    [row[key] for row in validations],
                    [row[f'acc@{radius}um'] for row in validations],
                    style,
                    color=f'C{i}',
                    label=f'within {radius} um' if style == '.-' else None,
                )
        axes.set(xscale='log', xlabel=label)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel('tips, % (validation stream)')
    panels[0].legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs, in their order')
    parser.add_argument('--after', type=Path, help='results of earlier runs')
    parser.add_argument('--beside', type=Path, help='results to draw beside them, dotted')
    args = parser.parse_args()
    main(args.runs, args.after, args.beside)
