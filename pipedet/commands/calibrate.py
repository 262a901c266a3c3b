"""Make a trained TipNet say what it knows: calibrate scores, covariances, confidence and novelty.

Reads a run, writes a folder of the same shape: config.py and model.safetensors, to test, predict
with or release.
"""

import argparse
import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from pipedet.commands.common import load_config
from pipedet.engine.checkpoint import WEIGHTS, load_weights, newest_weights, save_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import calibration
from pipedet.models.detectors import TipNet
from pipedet.models.tip_detector import build_detector
from pipedet.registry import DATASETS
from pipedet.runtime.tips import why_unlike
from pipedet.structures import TipDataSample, split_unread

BATCH = 16
CALIBRATION = 'calibration.json'  # what was found
# The stream that chose nothing else; training has another seed, the frozen sets a third.
SEED = 400
# Once scores are chances: a robot is to follow what is answered, so that a ghost costs more than a
# tip not found. The threshold of the best F1 on such scenes lies lower, and brings ghosts on images
# of another kind.
LIKELY = 0.7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('config', type=Path, help='config.py of a run of a TipNet')
    parser.add_argument('--checkpoint', type=Path, help='weights [the newest of the run]')
    parser.add_argument('--out', type=Path, help='folder to write [RUN FOLDER/calibrated]')
    parser.add_argument(
        '--scenes',
        type=int,
        default=800,
        help='to draw for scores, and of each kind for novelty [800]',
    )


def run(args: argparse.Namespace) -> None:
    """Calibrate and write."""
    args.work_dir, args.cfg_options = None, {}
    config = load_config(args)
    tune_cpu()
    model = build_detector(config.model)
    if not isinstance(model, TipNet):
        raise ValueError(f'{args.config} is no TipNet: there is nothing to calibrate')
    folder = args.config.parent
    weights = args.checkpoint or newest_weights(folder)
    load_weights(weights, model)
    model.to(memory_format=torch.channels_last).eval()
    # What an earlier calibration made of it does not count.
    model.score_threshold, model.answer = LIKELY, (1.0, 0.0)
    model.head.score, model.head.spread = (1.0, 0.0), 1.0

    scenes = stream_like(config.val_dataloader.dataset, args.scenes, SEED)
    described = DATASETS.build(scenes).describe()
    print(f'calibrates {weights} on {described}')
    kinds = [_summaries(model, stream) for stream in _kinds(config, args.scenes)]
    model.novelty.fit([known.tensor_split([len(known) * 2 // 3]) for known in kinds])
    judged = calibration.judge(predictions(model, scenes))
    head = config.model.head
    head.score = calibration.fit_chances(judged.scores, judged.correct)
    head.spread = calibration.fit_spread(judged)
    model.head.score, model.head.spread = head.score, head.spread
    answers = predictions(model, scenes)
    calibrated = calibration.judge(answers)
    config.model.update(score_threshold=LIKELY, answer=_fit_confidence(answers))

    out = args.out or folder / 'calibrated'
    out.mkdir(parents=True, exist_ok=True)
    config.work_dir = str(out)
    config.dump(out / 'config.py')
    save_weights(out / WEIGHTS, model)
    found = dict(
        weights=weights.name,
        data=described,
        score=head.score,
        spread=head.spread,
        score_threshold=LIKELY,
        answer=config.model.answer,
        before=_measure(judged),
        after=_measure(calibrated),
    )
    (out / CALIBRATION).write_text(json.dumps(found, indent=1) + '\n')
    print(json.dumps(found, indent=1))


@torch.no_grad()
def predictions(model: TipNet, dataset: dict) -> list[TipDataSample]:
    """Return the predicted samples of a dataset's config, without images that cannot be read."""
    loader = DataLoader(DATASETS.build(dataset), batch_size=BATCH, collate_fn=pseudo_collate)
    samples = (sample for batch in loader for sample in model.test_step(batch))
    return [sample for sample in samples if 'pred_tips' in sample]


def _fit_confidence(answers: list[TipDataSample]) -> tuple[float, float]:
    """Return scale and shift that make the confidence in answers to whole images a chance."""
    given = [sample for sample in answers if why_unlike(sample.novelty) is None]
    confidence, right = calibration.judge_answers(given)
    if len(set(right)) < 2:
        print(f'{sum(right)} of {len(right)} answers are right: confidence stays as scores make it')
        return 1.0, 0.0
    return calibration.fit_chances(confidence, right)


def _kinds(config: Config, count: int) -> list[dict]:
    """Return datasets of new images as the network was trained on, one of each kind of scenes."""
    stream = stream_like(config.train_dataloader.dataset, count, SEED)
    if 'recipes' not in stream:
        return [stream]
    return [dict(stream, recipes={name: 1.0}) for name in stream['recipes']]


@torch.no_grad()
def _summaries(model: TipNet, stream: dict) -> torch.Tensor:
    """Return what novelty is judged by, of the images of a dataset."""
    loader = DataLoader(DATASETS.build(stream), batch_size=BATCH, collate_fn=pseudo_collate)
    readable = (split_unread(batch)[0] for batch in loader)
    batches = (model.data_preprocessor(b)['inputs'] for b in readable if b['data_samples'])
    summaries = torch.cat([model._final(model._enhance(inputs, None)[0])[1] for inputs in batches])
    # Of joined sets the first should not have all the known ones.
    return summaries[torch.randperm(len(summaries), generator=torch.Generator().manual_seed(SEED))]


def stream_like(dataset: dict, count: int, seed: int) -> dict:
    """Return so many new scenes like those of a dataset; labelled images as they are."""
    if 'sets' in dataset:
        return dict(dataset, sets=[stream_like(own, count, seed) for own in dataset['sets']])
    return dict(dataset, length=count, seed=seed, keep=1) if 'recipes' in dataset else dataset


def _measure(judged: calibration.Judged) -> dict:
    return dict(
        calibration_error=calibration.calibration_error(judged.scores, judged.correct),
        coverage=calibration.coverage(judged),
        risk_coverage_area=calibration.risk_coverage_area(judged.scores, judged.correct),
    )
