"""What the commands share: reading a config, finding a run's files, building its runner."""

import argparse
import logging
import os
import platform
import subprocess  # nosec B404
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction

import pipedet
from pipedet.apis import TipLocaliser
from pipedet.datasets import PipetteImages
from pipedet.engine import TipRunner
from pipedet.engine.checkpoint import WEIGHTS
from pipedet.engine.cpu import tune_cpu
from pipedet.registry import DATASETS, MODELS
from pipedet.zoo import load_model


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command that takes a config."""
    parser.add_argument('config', type=Path, help='a Python config, such as configs/quickstart.py')
    parser.add_argument('--work-dir', type=Path, help='run folder [work_dirs/NAME OF CONFIG]')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change keys of the config, such as model.coarse.sigma=8',
    )


def add_data_arguments(parser: argparse.ArgumentParser, purpose: str, required: bool) -> None:
    """Add the arguments of commands that read labelled images."""
    add = parser.add_argument
    add('--data', type=Path, required=required, help=f'folder {purpose}, images in it or in its '
        'images/')  # fmt: skip
    add(
        '--annotations', default='annotations.json', help='COCO or CSV file in --data [%(default)s]'
    )
    add('--pixel-size-um', type=float, help='of the images in --data')


def labelled_images(args: argparse.Namespace) -> dict:
    """Return what `add_data_arguments` asked for, as the config of a `PipetteImages`."""
    return dict(
        type='pipedet.PipetteImages',
        root=str(args.data.resolve()),
        annotations=args.annotations,
        pixel_size_um=args.pixel_size_um,
        subset=args.data.resolve().name,
        seed=0,
    )


def same_type(part: dict) -> dict:
    """Return a part's config with its class itself: a class has several names to call it by."""
    kind = part['type']
    return dict(
        part, type=(MODELS.get(kind) or DATASETS.get(kind)) if isinstance(kind, str) else kind
    )


def datasets_of(config: Config) -> list[dict]:
    """Return what a config trains, validates and tests on."""
    return [config[f'{use}_dataloader'].dataset for use in ('train', 'val', 'test')]


def set_in_images(part: Any, values: dict) -> int:
    """Set fields of every `PipetteImages` in a part of a config; return how many there are."""
    if isinstance(part, list | tuple):
        return sum(set_in_images(item, values) for item in part)
    if not isinstance(part, dict):
        return 0
    if 'type' in part and same_type(part)['type'] is PipetteImages:
        part.update(values)
        return 1
    return sum(set_in_images(value, values) for value in part.values())


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name trained weights."""
    add = parser.add_argument
    add('--model', default='tipnet_s', help='a trained model that comes with pipedet [%(default)s]')
    add('--config', type=Path, help='config.py of a run, in place of --model')
    add('--checkpoint', type=Path, help='its weights [model.safetensors beside the config]')
    add('--max-tips', type=int, help='how many tips an image can hold: of more the best count')
    add('--threshold', type=float, help="score from which a candidate is a tip [the model's own]")


def localiser_of(
    args: argparse.Namespace, device: str, min_confidence: float | None = None
) -> TipLocaliser:
    """Load what `add_model_arguments` asked for."""
    rules = dict(max_tips=args.max_tips, threshold=args.threshold, min_confidence=min_confidence)
    if args.config is None:
        if args.checkpoint is not None:
            raise ValueError('--checkpoint needs the --config that its weights are of')
        return load_model(args.model, device, **rules)
    if not args.config.is_file():
        raise FileNotFoundError(f'no config at {args.config}: a run has one in its folder')
    if args.config.suffix != '.py':
        raise ValueError(f'{args.config}: the config of a run is its config.py')
    weights = args.checkpoint or args.config.parent / WEIGHTS
    return TipLocaliser(args.config, weights, device, **rules)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments name, with their changes and run folder."""
    if not args.config.is_file():
        raise FileNotFoundError(f'no config at {args.config}')
    # mmengine would import and construct what a YAML or JSON file names, which looks like data.
    if args.config.suffix != '.py':
        raise ValueError(f'{args.config}: a config is a Python program, a .py file')
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    config.resume = False  # a run that was resumed says otherwise in its config.py
    # A run folder's own config.py means that run.
    own = args.config.parent if args.config.name == 'config.py' else None
    config.work_dir = str(args.work_dir or own or Path('work_dirs') / args.config.stem)
    return config


def build_runner(config: Config) -> TipRunner:
    """Build the runner; under torchrun or SLURM it joins the other ranks."""
    tune_cpu()
    config.launcher, place = 'none', {}
    # mmengine's launchers would ask for CUDA; a group that exists they leave alone.
    must_join = not torch.cuda.is_available() and not torch.distributed.is_initialized()
    if int(os.environ.get('WORLD_SIZE', 1)) > 1:
        config.launcher = 'pytorch'
    elif int(os.environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1:  # set by srun, not by salloc
        config.launcher = 'slurm'
        place = _place_in_slurm() if must_join else {}
    if must_join and config.launcher != 'none':
        torch.distributed.init_process_group('gloo', **place)
    # At INFO mmengine opens with two pages about itself; the environment goes to a file instead.
    config.log_level = 'WARNING'
    runner = TipRunner.from_cfg(config)
    for part in (runner.logger, *runner.logger.handlers):
        part.setLevel(logging.INFO)
        if isinstance(part, logging.FileHandler):  # it was opened in the system's own alphabet
            part.stream.reconfigure(encoding='utf-8', errors='backslashreplace')
    return runner


def _place_in_slurm() -> dict:
    """Return which of how many ranks this is and where they meet, as mmengine reads it."""
    host = os.environ.get('MASTER_ADDR')
    if not host:
        ask = ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']]
        asked = subprocess.run(ask, check=True, capture_output=True, text=True)  # nosec B603
        host = asked.stdout.split()[0]
    return dict(
        init_method=f'tcp://{host}:{os.environ.get("MASTER_PORT", "29500")}',
        rank=int(os.environ['SLURM_PROCID']),
        world_size=int(os.environ['SLURM_NTASKS']),
    )


def environment() -> dict[str, str | int | list[str]]:
    """Return what programs and computer a run is made with."""
    packages = ('torch', 'timm', 'mmengine', 'numpy', 'scipy', 'cv2')
    cuda = range(torch.cuda.device_count())
    return dict(
        system=platform.platform(),
        python=platform.python_version(),
        pipedet=pipedet.__version__,
        **{package: import_module(package).__version__ for package in packages},
        cores=os.cpu_count() or 1,
        gpus=[torch.cuda.get_device_name(gpu) for gpu in cuda],
        cuda=torch.version.cuda or '',
        torch_built_with=torch.__config__.show(),
    )


def device_name(device: str | torch.device) -> str:
    """Return what numbers taken on a device were measured on."""
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name()
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text(encoding='utf-8').splitlines() if cpuinfo.is_file() else []
    model = next(
        (line.split(':')[1].strip() for line in lines if line.startswith('model name')), ''
    )
    return f'CPU {model}, {torch.get_num_threads()} threads'.replace('  ', ' ')
