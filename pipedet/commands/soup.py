"""Average the weights of trainings that began with the same ones: one network, as fast as each.

Trainings that go on from one set of weights, on other scenes each, end in one valley of the loss,
and its middle is often better than where any of them stopped (Wortsman et al. 2022, arXiv
2203.05482); without that beginning a mean is of nothing. Reads the runs, writes a folder of the
same shape, to calibrate, test or predict with.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from pipedet.commands.calibrate import BATCH, CALIBRATION, stream_like
from pipedet.commands.members import keep_records, shared_config
from pipedet.engine.checkpoint import (
    RECORD,
    WEIGHTS,
    load_grown,
    load_weights,
    newest_weights,
    save_weights,
)
from pipedet.engine.cpu import tune_cpu
from pipedet.models.answers import forget_calibration
from pipedet.models.tip_detector import TipDetector, build_detector
from pipedet.registry import DATASETS
from pipedet.structures import split_unread
from pipedet.zoo import weights_of

SEED = 500  # neither that of a training nor of what calibrates it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs of one config')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    parser.add_argument(
        '--with-origin',
        action='store_true',
        help='count in the weights that they began with: what they could keeps its weight',
    )
    parser.add_argument(
        '--scenes', type=int, default=640, help='to take the moments of batches from [640]'
    )


def run(args: argparse.Namespace) -> None:
    """Average and write."""
    config = shared_config(args.runs, others=args.with_origin)
    _check_kinship(args.runs)
    tune_cpu()
    model = build_detector(config.model)
    states = []
    if args.with_origin:  # Wortsman et al. 2022 (WiSE-FT, arXiv 2109.01903)
        # First, while the model is new: the blocks that the origin lacks must add nothing.
        load_grown(weights_of(config.load_from), model)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    for folder in args.runs:
        load_weights(newest_weights(folder), model)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    model.load_state_dict(mean_state(states))
    forget_calibration(model)
    retake_moments(model, config, args.scenes)
    args.out.mkdir(parents=True, exist_ok=True)
    config.work_dir = str(args.out)
    config.dump(args.out / 'config.py')
    save_weights(args.out / WEIGHTS, model)
    keep_records(args.runs, args.out, with_origin=args.with_origin)
    print(f'{len(args.runs)} runs in {args.out}: pipedet test {args.out / "config.py"}')


def _check_kinship(folders: list[Path]) -> None:
    """Raise ValueError unless the runs are done and began with the same weights."""
    origins = [Config.fromfile(folder / 'config.py').get('load_from') for folder in folders]
    for folder, origin in zip(folders, origins, strict=True):
        if origin is None or origin != origins[0]:
            raise ValueError(
                f'{folder} began with {origin or "random weights"}, {folders[0]} with '
                f'{origins[0] or "random weights"}: only trainings that go on from the same '
                'weights (load_from) have a mean; of others take an ensemble'
            )
        if (folder / CALIBRATION).is_file() or not (folder / RECORD).is_file():
            raise ValueError(f'{folder} is no training that is done: give the folder it wrote')


def mean_state(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of every weight; of what only counts, the first's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


@torch.no_grad()
def retake_moments(model: TipDetector, config: Config, count: int) -> None:
    """Take mean and variance of every batch normalisation anew, from new scenes as in training.

    They belong to the weights that they were taken with: their own mean fits none.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    model.to(memory_format=torch.channels_last).eval()
    kept = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # each batch counts alike
        layer.train()
    stream = stream_like(config.train_dataloader.dataset, count, SEED)
    for batch in DataLoader(DATASETS.build(stream), batch_size=BATCH, collate_fn=pseudo_collate):
        readable = split_unread(batch)[0]
        if readable['data_samples']:
            model(**model.data_preprocessor(readable), mode='tensor')
    for layer, momentum in zip(layers, kept, strict=True):
        layer.momentum = momentum
    model.eval()
