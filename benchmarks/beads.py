"""How well beads in electron micrographs are found and told apart, small scenes and whole ones.

    python benchmarks/beads.py work_dirs/midasmap_small work_dirs/midasmap_mean

At the size that the run was tested on, and at 2048x2115, where beads are fifteen times as rare;
each with the score threshold of the best mean F1 on micrographs of the validation's seed. Writes
results/beads_NAME.json of each run or ensemble, and the tables between the marks in README.md.
"""

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from runs import name_of
from tables import rewrite

from pipedet.commands.common import device_name
from pipedet.commands.members import MEMBERS
from pipedet.datasets import BeadMicrographs
from pipedet.engine.checkpoint import RECORD, WEIGHTS, load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import KindMetric
from pipedet.models.tip_detector import TipDetector, build_detector
from pipedet.synthesis.beads import SIZE

HERE = Path(__file__).parent
THRESHOLDS = np.arange(0.1, 0.95, 0.05).round(2).tolist()
ROUNDS = 1000  # of the bootstrap
SAID = ('command', 'device', 'train_s', 'samples_seen', 'batch_size')  # of a training


def main(runs: list[Path], small: int, whole: int) -> None:
    """Measure each run, and write."""
    tune_cpu()
    tables = []
    for run in runs:
        found = examine(run, small, whole)
        path = HERE / 'results' / f'beads_{found["model"]}.json'
        path.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
        tables.append(to_markdown(found))
        print(tables[-1], flush=True)
    rewrite(HERE / 'README.md', 'beads', '\n\n'.join(tables))


@torch.no_grad()
def examine(run: Path, small: int, whole: int) -> dict:
    """Choose thresholds and measure, on so many micrographs of either size."""
    config = Config.fromfile(run / 'config.py')
    model = build_detector(config.model)
    load_weights(run / WEIGHTS, model)
    model.to(memory_format=torch.channels_last).eval()
    options = dict(config.test_dataloader.dataset)
    del options['type']
    names, radius = config.test_evaluator.names, config.test_evaluator.radius

    sets = dict(small=dict(micrographs=small), whole=dict(micrographs=whole, size=SIZE, beads=45))
    val_seed = config.val_dataloader.dataset.seed
    rows = {}
    for name, scene in sets.items():
        known = predict(model, BeadMicrographs(**options | scene | dict(seed=val_seed)))
        f1 = {t: measure(known, t, names, radius)['mean'] for t in THRESHOLDS}
        threshold = max(f1, key=f1.get)
        dataset = BeadMicrographs(**options | scene)
        rows[name] = dict(
            data=dataset.describe(),
            threshold=threshold,
            mean_f1_on_validation={str(t): value for t, value in f1.items()},
            **measure(predict(model, dataset), threshold, names, radius, ROUNDS),
        )
    return dict(
        model=name_of(run),
        trainings=[{key: own[key] for key in SAID} for own in _trainings(run)],
        radius_px=radius,
        device=device_name('cpu'),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
        sets=rows,
    )


def _trainings(run: Path) -> list[dict]:
    """Return the record of the run's training, or of each run that an ensemble is made of."""
    members = run / MEMBERS
    if members.is_file():
        return json.loads(members.read_text(encoding='utf-8'))
    return [json.loads((run / RECORD).read_text(encoding='utf-8'))]


def predict(model: TipDetector, dataset: BeadMicrographs) -> list[dict]:
    """Return every micrograph with all its candidates."""
    return [model.test_step(pseudo_collate([dataset[i]]))[0].to_dict() for i in range(len(dataset))]


def measure(
    samples: list[dict], threshold: float, names: list[str], radius: float, rounds: int = 0
) -> dict:
    """Return precision, recall and F1 of each kind in %, and 95 % intervals of F1 if asked for."""
    metric = KindMetric(names=names, radius=radius)
    metric.process(None, [sample | dict(score_threshold=threshold) for sample in samples])
    counts = metric.results
    result = metric.compute_metrics(counts)
    rng, end = np.random.default_rng(0), f'@{radius:g}px'
    again = [
        metric.compute_metrics([counts[i] for i in rng.integers(len(counts), size=len(counts))])
        for _ in range(rounds)
    ]
    rows = {}
    for name in names:
        keys = {key: f'kind/{key}{end}/{name}' for key in ('precision', 'recall', 'f1')}
        rows[name] = {key: result.get(long) for key, long in keys.items()}
        if again:
            spread = [one.get(keys['f1'], 0.0) for one in again]
            rows[name]['f1_95'] = np.percentile(spread, (2.5, 97.5)).tolist()
    return dict(mean=result.get(f'kind/f1{end}', 0.0), kinds=rows)


def to_markdown(found: dict) -> str:
    """Return the table of both sets."""
    trainings = found['trainings']
    patches, seconds = (sum(t[key] for t in trainings) for key in ('samples_seen', 'train_s'))
    several = f', the mean of {len(trainings)} trainings' if len(trainings) > 1 else ''
    lines = [
        f'`{found["model"]}`{several}: {patches} patches in {seconds / 60:.0f} min '
        f'({trainings[0]["device"]}); hits within {found["radius_px"]:g} px; {found["date"]}.',
        '',
        '| micrographs | threshold | kind | precision, % | recall, % | F1, % (95 %) |',
        '|---|---|---|---|---|---|',
    ]
    for own in found['sets'].values():
        for kind, row in own['kinds'].items():
            low, high = row['f1_95']
            cells = [own['data'], f'{own["threshold"]:g}', kind]
            cells += [_percent(row['precision']), _percent(row['recall'])]
            cells += [f'{_percent(row["f1"])} ({low:.1f} to {high:.1f})']
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _percent(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'  # nothing predicted has no precision


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs or ensembles')
    parser.add_argument('--small', type=int, default=40, help='micrographs of the small sets')
    parser.add_argument('--whole', type=int, default=10, help='micrographs of 2048x2115')
    args = parser.parse_args()
    main(args.runs, args.small, args.whole)
