"""Measure how long a detector takes from raw image to tips, and what it costs."""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from torch.utils.flop_counter import FlopCounterMode

from pipedet.apis import prepare
from pipedet.commands.common import add_config_arguments, device_name, load_config
from pipedet.engine.cpu import tune_cpu
from pipedet.models.fusing import fuse
from pipedet.models.parts import count_parameters
from pipedet.models.preprocessor import normalise
from pipedet.models.tip_detector import TipDetector, build_detector

FRAME = np.zeros((256, 256), np.uint8)  # what is timed is what the config makes of it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--batch', type=int, nargs='+', default=[1], help='batch sizes [1]')
    parser.add_argument('--warmup', type=int, default=10, help='runs not counted [%(default)s]')
    parser.add_argument('--runs', type=int, default=100, help='runs counted [%(default)s]')
    parser.add_argument('--threads', type=int, help='CPU threads [all]')
    parser.add_argument('--out', type=Path, help='JSON file [RUN FOLDER/latency.json]')


def run(args: argparse.Namespace) -> None:
    """Measure every batch size, print a table and write the JSON."""
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise RuntimeError('no CUDA device here: use --device cpu')
    if args.threads:
        torch.set_num_threads(args.threads)
    tune_cpu()
    config = load_config(args)
    result = measure(config, args.device, args.batch, args.warmup, args.runs)
    result['config'] = args.config.name
    out = args.out or Path(config.work_dir) / 'latency.json'
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1), encoding='utf-8')
    print(
        f'{result["device"]}: {result["gflop"]:.2f} GFLOP, {result["parameters_m"]:.2f} M weights'
    )
    print('batch   p50 ms   p95 ms   p99 ms   images/s   peak MB')
    for row in result['batches']:
        print(
            f'{row["batch"]:5d} {row["p50_ms"]:8.2f} {row["p95_ms"]:8.2f} {row["p99_ms"]:8.2f} '
            f'{row["images_per_s"]:10.1f} {row["peak_memory_mb"]:9.0f}'
        )
    print(f'written to {out}')


@torch.no_grad()
def measure(config: Config, device: str, batches: list[int], warmup: int, runs: int) -> dict:
    """Return costs and wall times of a config's detector with random weights.

    A run goes from frames on the device, of the size that the config makes of 256x256, to tips on
    the CPU, normalisation included; reading the result back synchronises a GPU.
    """
    model = fuse(build_detector(config.model).eval())  # as `TipLocaliser` does
    model.requires_grad_(False).to(device, memory_format=torch.channels_last)
    shape = prepare(Compose(config.predict_pipeline), FRAME)['inputs'].shape
    one = torch.rand(1, *shape, device=device)
    with FlopCounterMode(display=False) as counter:
        model.read(one)  # as predictions are made: with all views, where they are averaged
    return dict(
        device=device_name(device),
        gflop=counter.get_total_flops() / 1e9,
        parameters_m=count_parameters(model) / 1e6,
        warmup=warmup,
        runs=runs,
        torch=torch.__version__,
        date=time.strftime('%Y-%m-%d'),
        input_size=list(shape[1:]),
        batches=[_time_batch(model, shape, device, batch, warmup, runs) for batch in batches],
    )


def _time_batch(
    model: TipDetector, shape: tuple[int, ...], device: str, batch: int, warmup: int, runs: int
) -> dict:
    images = 1000 * torch.rand(batch, *shape, device=device)
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(warmup + runs):
        started = time.perf_counter()
        points, scores = model.read(normalise(images))
        points.cpu(), scores.cpu()
        times.append(1e3 * (time.perf_counter() - started))
    p50, p95, p99 = np.percentile(times[warmup:], (50, 95, 99))
    return dict(
        batch=batch,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        images_per_s=1e3 * batch / p50,
        peak_memory_mb=_peak_memory(device) / 2**20,
    )


def _peak_memory(device: str) -> int:
    """Bytes: of the GPU's tensors, or of the whole process on a CPU."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated()
    if platform.system() == 'Windows':
        return 0  # Windows keeps no such count where Python can read it
    import resource  # missing on Windows

    unit = 1 if platform.system() == 'Darwin' else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
