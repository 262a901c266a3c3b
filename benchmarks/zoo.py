"""Put a calibrated run into the zoo: weights, what is needed to use them, and a card that is true.

    python benchmarks/zoo.py tipnet_s --run work_dirs/tipnet_s/calibrated --real FOLDER...

Measures the weights on the frozen sets, on crowded and on empty scenes, and on labelled real images
where folders of them are given. Writes results/zoo_NAME.json and the folder pipedet/zoo/NAME.
Without a run it measures again what ships by that name.
"""

import argparse
import datetime
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from card import SURE, card_of, summary_of
from mmengine.config import Config
from scipy.optimize import linear_sum_assignment
from scipy.stats import beta
from tables import rewrite
from trainings import trainings_of

from pipedet import zoo
from pipedet.commands.calibrate import predictions
from pipedet.commands.common import device_name
from pipedet.engine.checkpoint import WEIGHTS, load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import bootstrap, by_cnr, by_count, calibration, intervals, summarise
from pipedet.evaluation.metrics import to_record
from pipedet.evaluation.protocols import TipRecord, known_count_scored, open_count
from pipedet.evaluation.summary import FOUND
from pipedet.models.parts import count_parameters
from pipedet.models.tip_detector import build_detector

HERE = Path(__file__).parent
KEYS = ('tip/acc@3um', 'tip/acc@5um', 'tip/acc@10um', 'tip/error_um', 'tip/median_um')
DEFAULT = 'tipnet_s'  # what `predict` takes unless told otherwise
OTHERS = (0.3, 0.5, 0.9)
CHOICE = ('open/recall@5um', 'open/precision@5um', 'open/ghosts_per_image')
OPEN = ('open/f1@5um', 'open/ghosts_per_image')
FROZEN = ('clear', 'standard', 'starved')
DRAWN = ('crowded', 'empty', 'brightfield', 'diffraction', 'slice')
RELIED_ON = (0.0, 0.5, 0.7)  # confidences from which one may choose to rely on an answer
NEAR_UM = 4.0  # heights at which a real tip is to be found


def main(name: str, run: Path | None, real: list[Path], scenes: int) -> None:
    """Measure, then write results and the model's folder."""
    tune_cpu()
    folder, results = zoo.HERE / name, HERE / 'results' / f'zoo_{name}.json'
    if run is not None:
        trainings = trainings_of(run.parent)
        calibrated = json.loads((run / 'calibration.json').read_text(encoding='utf-8'))
        config, weights = Config.fromfile(run / 'config.py'), run / WEIGHTS
    else:
        before = json.loads(results.read_text(encoding='utf-8'))
        trainings, calibrated = before['trainings'], before['calibration']
        config, weights = zoo.test_config(name), folder / WEIGHTS
    model = build_detector(config.model)
    load_weights(weights, model)
    model.to(memory_format=torch.channels_last).eval()
    datasets = _datasets(config.predict_pipeline, real, scenes)
    if run is None:
        _refuse_to_forget(before['sets'], datasets)
    predicted = {kind: predictions(model, dataset) for kind, dataset in datasets.items()}
    found = dict(
        name=name,
        parameters=count_parameters(model),
        bytes=weights.stat().st_size,
        trainings=trainings,
        calibration=calibrated,
        device=device_name('cpu'),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
        sets={kind: _measure(samples) for kind, samples in (predicted | _near(predicted)).items()},
        thresholds=_thresholds(predicted, model.score_threshold),
    )
    results.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    if run is not None:
        _ship(config, weights, folder)
    (folder / zoo.CARD).write_text(card_of(found), encoding='utf-8')
    if name == DEFAULT:
        rewrite(HERE.parent / 'README.md', 'model', summary_of(found))
    print(card_of(found))


def _refuse_to_forget(measured: dict, datasets: dict) -> None:
    missing = [kind for kind in measured if kind.split(',')[0] not in datasets]
    if missing:
        raise ValueError(f'measured before, and not now: {missing}; give their folders by --real')


def _ship(config: Config, weights: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for file in (weights, weights.with_name(f'{WEIGHTS}.sha256')):
        shutil.copy(file, folder)
    data = _plain(dict(model=config.model, predict_pipeline=config.predict_pipeline))
    (folder / zoo.CONFIG).write_text(json.dumps(data, indent=1) + '\n', encoding='utf-8')


def _plain(value):
    """Return a part of a config as JSON values, its classes by their names in the registries."""
    if isinstance(value, dict):
        return {
            key: f'pipedet.{_name(kind)}' if key == 'type' else _plain(kind)
            for key, kind in value.items()
        }
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _name(kind: type | str) -> str:
    return kind.split('.')[-1] if isinstance(kind, str) else kind.__name__


def _datasets(pipeline: list, real: list[Path], scenes: int) -> dict[str, dict]:
    frozen = {
        subset: dict(type='pipedet.FrozenPipettes', subset=subset, pipeline=pipeline, count=scenes)
        for subset in FROZEN
    }
    drawn = {
        recipe: dict(
            type='pipedet.SyntheticPipettes',
            recipes={recipe: 1.0},
            length=min(scenes, 200),
            pipeline=pipeline,
            seed=600,
        )
        for recipe in DRAWN
    }
    folders = {
        folder.resolve().name: dict(
            type='pipedet.PipetteImages',
            root=str(folder),
            annotations='annotations.json',
            image_folder='images',
            subset=folder.resolve().name,
            pipeline=pipeline,
            seed=0,
        )
        for folder in real
    }
    return frozen | drawn | folders


def _near(predicted: dict[str, list]) -> dict[str, list]:
    """Return, of folders of images of known heights, those whose tips are near the focus."""
    near = {
        f'{kind}, |z| <= {NEAR_UM:.0f} um': [
            sample
            for sample in samples
            if 'z_um' in sample.gt_tips and (sample.gt_tips.z_um.abs() <= NEAR_UM).all()
        ]
        for kind, samples in predicted.items()
        if kind not in FROZEN + DRAWN
    }
    return {kind: samples for kind, samples in near.items() if samples}


def _measure(samples: list) -> dict:
    """Return the figures of one set: all its tips, and those of CNR >= 1 where that is known."""
    records = [to_record(sample.to_dict()) for sample in samples]
    summary = summarise(records)
    found = {key: summary[key] for key in (*KEYS, *OPEN) if key in summary}
    found['images'] = len(records)
    found['abstained'] = 100.0 * sum(record.abstained for record in records) / len(records)
    found['answers'] = sum(open_count(record, FOUND)[1] for record in records)
    found['count_right'] = summary['open/count_acc']
    if 'tip/acc@5um' in summary:
        found['interval@5um'] = bootstrap(records, 'tip/acc@5um')
    if any(r.cnr is not None for r in records):
        bands = by_cnr(records)
        found['CNR >= 1'] = {key: bands['>=1'][key] for key in (*KEYS, *OPEN)}
        found['CNR >= 1'] |= {'interval@5um': intervals(records, '>=1')['tip/acc@5um']}
        for part, rows in (('by CNR', bands), ('by count', by_count(records))):
            within = {name: row.get('tip/acc@10um') for name, row in rows.items()}
            found[part] = {name: share for name, share in within.items() if share is not None}
    scaled = [s for s in samples if s.pixel_size_um is not None]
    judged = calibration.judge(scaled) if scaled else None
    if judged is not None and len(judged.offsets):
        found['calibration_error'] = calibration.calibration_error(judged.scores, judged.correct)
        found['coverage'] = calibration.coverage(judged)
    if scaled:
        found |= _whole_answers(scaled)
    turned = np.concatenate([_turned(sample) for sample in scaled] or [[]])
    if len(turned):
        found['direction_error_deg'] = np.percentile(turned, [50, 90]).tolist()
    heights = [_heights(s) for s in scaled if 'z_um' in s.gt_tips]
    if heights:
        answered, true = torch.cat(heights).unbind(dim=1)
        found['height_error_um'] = float((answered - true).abs().mean())
        found['height_error_of_zero_um'] = float(true.abs().mean())
    return found


def _whole_answers(samples: list) -> dict:
    """Return how many answers to whole images are right, and what their confidence tells of it."""
    records = [to_record(sample.to_dict()) for sample in samples]
    given = np.array([not record.abstained for record in records])
    confidence, right = map(np.array, calibration.judge_answers(samples))
    # What there would be without it: the best score, which speaks of one tip alone.
    best = [float(s.pred_tips.scores.max()) if len(s.pred_tips) else 0.0 for s in samples]
    # Of what is not answered one is least sure.
    confidence, best = (np.where(given, own, 0.0) for own in (confidence, best))
    surest = np.argsort(-confidence, kind='stable')[: round(SURE * len(records))]
    of_surest = summarise([records[i] for i in surest])
    found = {'surest_tips/acc@5um': _surest_tips(records)}
    if 'tip/acc@5um' in of_surest:
        found['surest/acc@5um'] = of_surest['tip/acc@5um']
    return found | dict(
        right=100.0 * float(right.mean()),
        doubt_area=calibration.risk_coverage_area(confidence, right),
        doubt_area_of_best_score=calibration.risk_coverage_area(best, right),
        confidence_error=calibration.calibration_error(confidence[given], right[given]),
        sure={f'{least:g}': _sure(given & (confidence >= least), right) for least in RELIED_ON},
    )


def _sure(answered: np.ndarray, right: np.ndarray) -> dict:
    """Return which images are answered, and wrongly, % of all, with a one-sided 95 % bound."""
    silent, count = int((answered & ~right).sum()), len(right)
    return dict(
        answered=100.0 * float(answered.mean()),
        silent=100.0 * silent / count,
        # Clopper and Pearson 1934.
        silent_at_most=100.0 * float(beta.ppf(0.95, silent + 1, max(count - silent, 1e-9))),
    )


def _surest_tips(records: list[TipRecord]) -> float | None:
    """Return the share in % within 5 um of the tips found with the best scores, told how many."""
    pairs = [known_count_scored(record) for record in records]
    away, scores = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    surest = np.argsort(-scores, kind='stable')[: round(SURE * len(scores))]
    return 100.0 * float((away[surest] < calibration.RADIUS_UM).mean()) if len(surest) else None


def _thresholds(predicted: dict[str, list], own: float) -> list[dict]:
    """Return what other thresholds than the model's own would find, and what of it is none."""
    records = {
        kind: [to_record(sample.to_dict()) for sample in samples]
        for kind, samples in predicted.items()
    }
    rows = []
    for threshold in (own, *OTHERS):
        row = dict(threshold=threshold)
        for kind, own_records in records.items():
            judged_so = [replace(record, score_threshold=threshold) for record in own_records]
            summary = summarise(judged_so)
            row[kind] = {key: summary[key] for key in CHOICE if key in summary}
        rows.append(row)
    return rows


def _turned(sample) -> np.ndarray:
    """Return by how many degrees the directions of the tips found are off, told how many."""
    if 'direction' not in sample.gt_tips or not len(sample.gt_tips) or not len(sample.pred_tips):
        return np.empty(0)
    record = to_record(sample.to_dict())
    away = (record.true[:, None] - record.pred[None, : len(record.true)]) * record.pixel_size_um
    rows, columns = linear_sum_assignment(np.linalg.norm(away, axis=-1))
    near = np.linalg.norm(away[rows, columns], axis=-1) < FOUND
    true = sample.gt_tips.direction.numpy()[rows[near]]  # pipelines here turn no image
    answered = sample.pred_tips.direction.numpy()[columns[near]]
    return np.degrees(np.arccos((true * answered).sum(axis=1).clip(-1, 1)))


def _heights(sample) -> torch.Tensor:
    """Return the best candidate's height and the true one, (1, 2), of an image with one tip."""
    if len(sample.gt_tips) != 1 or not len(sample.pred_tips):
        return torch.empty(0, 2)
    return torch.stack([sample.pred_tips.z_um[:1], sample.gt_tips.z_um.cpu().view(1)], dim=1)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('name', help='of the model')
    parser.add_argument('--run', type=Path, help='folder that `pipedet calibrate` wrote')
    parser.add_argument('--real', type=Path, nargs='*', default=[], help='labelled images')
    parser.add_argument('--scenes', type=int, default=500, help='of every set [%(default)s]')
    args = parser.parse_args()
    main(args.name, args.run, args.real, args.scenes)
