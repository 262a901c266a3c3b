"""How long a recipe takes on this machine, and how to fit it into less.

The times are measured on a few real steps of every stage before training. A budget gives each stage
the share of the wall clock that it has in the full recipe; a stage ends when its share is over.
"""

import math
import re
import time
from itertools import cycle, islice

import torch

from pipedet.datasets import DatasetError, TipDataset
from pipedet.engine.loops import StagedTrainLoop
from pipedet.engine.stages import Stage
from pipedet.models.parts import unwrap
from pipedet.models.tip_detector import TipDetector

PROBE_SAMPLES, STEP_SAMPLES = 8, 4  # on a CPU time goes with their number, so a few tell


def parse_duration(text: str) -> float:
    """Return seconds of '90s', '10m', '1.5h'."""
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([smh])', text.strip())
    if not match or float(match[1]) == 0:
        raise ValueError(f'a duration is a number with s, m or h, such as 10m; got {text!r}')
    return float(match[1]) * dict(s=1, m=60, h=3600)[match[2]]


def draw_kept(dataset: TipDataset) -> float:
    """Draw the scenes that a dataset keeps; return the seconds that it took.

    Without this the first stage would pay for them, and be left with hardly a step of its own.
    """
    started = time.perf_counter()
    if hasattr(dataset, 'prepare'):
        dataset.prepare()
    return time.perf_counter() - started


def plan(loop: StagedTrainLoop, budget_s: float | None) -> list[dict]:
    """Measure every stage, share out the budget, and return what was measured and planned."""
    data_s, val_s = _time_data(loop), _time_validation(loop)
    rows = []
    for stage in loop.stages:
        step_s = _time_step(loop, stage)
        # Workers load while the model computes, on the same cores.
        step_s = max(step_s, data_s) if loop.dataloader.num_workers else step_s + data_s
        iters = stage.epochs * len(loop.dataloader)
        full_s = step_s * iters + val_s * math.ceil(stage.epochs / loop.val_interval)
        rows.append(dict(stage=stage.name, step_s=step_s, iters=iters, full_s=full_s))
    total = sum(row['full_s'] for row in rows)
    for stage, row in zip(loop.stages, rows, strict=True):
        row['planned_s'], row['share_s'] = row['full_s'], None
        stage.step_s, stage.has_budget = row['step_s'], budget_s is not None
        if budget_s is not None and total > budget_s:
            row['planned_s'] = budget_s * row['full_s'] / total
            # Every stage ends with a validation, inside its share.
            row['share_s'] = max(row['planned_s'] - val_s, row['planned_s'] / 10)
        stage.share_s = row['share_s']
    return rows


def describe_plan(rows: list[dict], budget_s: float | None) -> list[str]:
    """Say in plain lines what was measured and what will be done."""
    total = sum(row['full_s'] for row in rows)
    planned = sum(row['planned_s'] for row in rows)
    lines = [f'the full recipe takes about {_clock(total)} on this machine, validation included']
    if budget_s is not None:
        verb = 'shortened to' if planned < total else 'it fits'
        lines[0] += f'; {verb} the budget of {_clock(budget_s)}'
    for row in rows:
        line = f'  stage {row["stage"]}: {row["step_s"]:.2f} s a step, {row["iters"]} steps'
        if row['planned_s'] < row['full_s']:
            line += f', shortened to {_clock(row["planned_s"])}'
            line += f' (about {row["iters"] * row["planned_s"] / row["full_s"]:.0f} steps)'
        lines.append(line)
    return lines


def _time_data(loop: StagedTrainLoop) -> float:
    """Seconds per batch that loading takes when all workers are busy, mean over the epochs."""
    dataset, epochs = loop.dataloader.dataset, loop.max_epochs
    count = min(len(dataset), PROBE_SAMPLES)
    clock = [time.perf_counter()]
    for _ in range(2):  # a dataset that keeps its images is slow in the first epoch only
        for index in range(count):
            dataset[index]
        clock.append(time.perf_counter())
    first, later = clock[1] - clock[0], clock[2] - clock[1]
    first /= getattr(dataset, 'processes', 1)
    per_sample = (first + (epochs - 1) * later) / epochs / count
    return per_sample * loop.dataloader.batch_size / max(1, loop.dataloader.num_workers)


@torch.no_grad()
def _time_validation(loop: StagedTrainLoop) -> float:
    """Seconds of one validation, of which every rank does its part."""
    model, loader = unwrap(loop.runner.model), loop.runner.val_loop.dataloader
    count = min(len(loader.dataset), 4)
    started = time.perf_counter()
    batch = loader.collate_fn(_readable(loader.dataset, count))
    model.eval()
    model.validate(batch)
    return (time.perf_counter() - started) * len(loader.sampler) / count


def _time_step(loop: StagedTrainLoop, stage: Stage) -> float:
    """Seconds of one forward and backward pass of a stage, leaving no trace in the model."""
    model = unwrap(loop.runner.model)
    on_cpu = next(model.parameters()).device.type == 'cpu'
    batch = loop.dataloader.batch_size
    count = min(batch, STEP_SAMPLES) if on_cpu else batch
    samples = _readable(loop.dataloader.dataset, count)
    kept = {name: value.clone() for name, value in model.named_buffers()}
    model.train_only(stage.parts)
    model.train()
    # The first pass through a shape makes the kernels for it, and takes twice as long.
    _step(model, loop.dataloader.collate_fn(samples))
    started = time.perf_counter()
    _step(model, loop.dataloader.collate_fn(samples))
    elapsed = time.perf_counter() - started
    for name, value in model.named_buffers():
        value.copy_(kept[name])
    model.zero_grad(set_to_none=True)
    return elapsed * batch / count


def _readable(dataset: TipDataset, count: int) -> list[dict]:
    """Return so many samples, again from the first one where the dataset is shorter."""
    samples = (dataset[index] for index in range(len(dataset)))
    found = list(islice((s for s in samples if s['inputs'] is not None), count))
    if not found:
        raise DatasetError(f'no image can be read: {dataset.describe()}')
    return list(islice(cycle(found), count))


def _step(model: TipDetector, batch: dict) -> None:
    losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
    sum(losses.values()).backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'
