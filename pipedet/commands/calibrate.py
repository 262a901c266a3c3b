"""Make a trained TipNet say what it knows: calibrate scores, covariances, confidence and novelty.

Reads a run, writes a folder of the same shape: config.py and model.safetensors, to test, predict
with or release.
"""

import argparse
import json
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from pipedet.commands.common import load_config
from pipedet.engine.checkpoint import WEIGHTS, load_weights, newest_weights, save_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import calibration
from pipedet.models.answers import forget_calibration
from pipedet.models.detectors import TipNet
from pipedet.models.tip_detector import build_detector
from pipedet.registry import DATASETS
from pipedet.structures import TipDataSample

BATCH = 16
CALIBRATION = 'calibration.json'  # what was found
_FACTS = ('scores', 'stood_by', 'summary')
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
        help='to draw for scores, and of each kind for confidence and novelty [800]',
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
    forget_calibration(model)  # what an earlier one made of it does not count
    model.score_threshold, model.head.score, model.head.spread = LIKELY, (1.0, 0.0), 1.0

    scenes = stream_like(config.val_dataloader.dataset, args.scenes, SEED)
    described = DATASETS.build(scenes).describe()
    print(f'calibrates {weights} on {described}')
    judged = calibration.judge(predictions(model, scenes))
    head = config.model.head
    head.score = calibration.fit_chances(judged.scores, judged.correct)
    head.spread = calibration.fit_spread(judged)
    model.head.score, model.head.spread = head.score, head.spread
    held_out = _Kind(model, scenes)
    drawn = [_Kind(model, stream) for stream in _drawn(config, args.scenes)]
    model.novelty.fit([kind.summaries for kind in drawn + _labelled(model, config, args.scenes)])
    answers = _fit_judge(model, [held_out, *drawn])
    calibrated = calibration.judge(held_out.samples)
    config.model.score_threshold = LIKELY

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
        before=_measure(judged),
        after=_measure(calibrated),
        answers=answers,
    )
    (out / CALIBRATION).write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(found, indent=1))


@torch.no_grad()
def predictions(model: TipNet, dataset: dict) -> list[TipDataSample]:
    """Return the predicted samples of a dataset's config, without images that cannot be read."""
    # A batch extends its images to one size, which features tell and a user's single image has not.
    several_sizes = any('root' in own for own in dataset.get('sets', [dataset]))
    size = 1 if several_sizes else BATCH
    loader = DataLoader(DATASETS.build(dataset), batch_size=size, collate_fn=pseudo_collate)
    samples = (sample for batch in loader for sample in model.test_step(batch))
    return [sample for sample in samples if 'pred_tips' in sample]


class _Kind:
    """What a network makes of a dataset of one kind of images.

    Attributes:
        samples: the images that could be read, predicted.
        scores, stood_by, summary: what answers to them are judged by (`AnswerJudge`).
    """

    def __init__(self, model: TipNet, stream: dict) -> None:
        asked = []
        hook = model.judge.register_forward_hook(lambda judge, given, chance: asked.append(given))
        self.samples = predictions(model, stream)
        hook.remove()
        self.scores, self.stood_by, self.summary = map(torch.cat, zip(*asked, strict=True))

    @property
    def summaries(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Two thirds to learn what is known from, and others that say how far it reaches."""
        # Of joined sets the first should not have all the known ones.
        order = torch.randperm(len(self.summary), generator=torch.Generator().manual_seed(SEED))
        return self.summary[order].tensor_split([len(order) * 2 // 3])


def _fit_judge(model: TipNet, kinds: list[_Kind]) -> dict:
    """Let a network learn to judge its answers to images with a scale, which it has not seen.

    Return how well it does on a third of them, having learned from the others; then it learns from
    all.
    """
    samples = [sample for kind in kinds for sample in kind.samples]
    facts = [torch.cat([getattr(kind, name) for kind in kinds]) for name in _FACTS]
    known = model.novelty(facts[-1]) <= 1  # what is unlike is not answered
    known &= torch.tensor([sample.pixel_size_um is not None for sample in samples])
    right = torch.tensor(calibration.rights(compress(samples, known.tolist())))
    order = torch.randperm(len(right), generator=torch.Generator().manual_seed(SEED))
    facts, right = [fact[known][order] for fact in facts], right[order]
    learned = len(right) * 2 // 3
    others, truth = [fact[learned:] for fact in facts], right[learned:].numpy()
    found = dict(images=len(right), right=int(right.sum()))
    found['before'] = _measure_chances(model.judge(*others).numpy(), truth)
    if learned:
        model.judge.fit(*(fact[:learned] for fact in facts), right[:learned])
        found['after'] = _measure_chances(model.judge(*others).numpy(), truth)
    model.judge.fit(*facts, right)
    return found


def _drawn(config: Config, count: int) -> list[dict]:
    """Return datasets of new scenes, one of each kind that the network was trained on."""
    trained = config.train_dataloader.dataset
    streams = [own for own in trained.get('sets', [trained]) if 'recipes' in own]
    return [
        dict(stream_like(stream, count, SEED), recipes={name: 1.0})
        for stream in streams
        for name in stream['recipes']
    ]


def _labelled(model: TipNet, config: Config, count: int) -> list[_Kind]:
    """Return labelled images that were trained on, one kind with the scenes beside them.

    They are few for a kind of their own; and answers to them are no measure of others.
    """
    trained = config.train_dataloader.dataset
    if all('recipes' in own for own in trained.get('sets', [trained])):
        return []
    return [_Kind(model, stream_like(trained, count, SEED))]


def stream_like(dataset: dict, count: int, seed: int) -> dict:
    """Return so many new scenes like those of a dataset; labelled images as they are."""
    if 'sets' in dataset:
        return dict(dataset, sets=[stream_like(own, count, seed) for own in dataset['sets']])
    return dict(dataset, length=count, seed=seed, keep=1) if 'recipes' in dataset else dataset


def _measure(judged: calibration.Judged) -> dict:
    chances = _measure_chances(judged.scores, judged.correct)
    return chances | dict(coverage=calibration.coverage(judged))


def _measure_chances(chances: np.ndarray, right: np.ndarray) -> dict:
    return dict(
        calibration_error=calibration.calibration_error(chances, right),
        risk_coverage_area=calibration.risk_coverage_area(chances, right),
    )
