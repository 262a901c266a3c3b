"""Train, test and time any number of configs alike, and write one report.

Each model has a folder in --out and processes of its own: one that fails is reported, the rest go
on. Run again, the same command goes on where it stopped.
"""

import argparse
import datetime
import json
import sys
from collections import Counter
from pathlib import Path

import markdown
import torch
from mmengine.config import Config, DictAction
from torch.utils.data import Dataset

from pipedet import __version__
from pipedet.commands.launch import agree_on, digest_of, launch
from pipedet.engine.budget import parse_duration
from pipedet.evaluation.comparison import ModelResult, check_same_images, measure, to_markdown
from pipedet.evaluation.comparison_figures import draw_figures
from pipedet.evaluation.report import read_records
from pipedet.formats.digest import sha256_of
from pipedet.models.heatmap_head import OVERLAP_LEVEL
from pipedet.registry import DATASETS

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Comparison</title>
<style>
body {{ font: 14px/1.5 sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #ccc; padding: 2px 8px; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }}
img {{ max-width: 100%; }}
</style>
{body}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'configs',
        type=Path,
        nargs='+',
        metavar='CONFIG',
        help='configs to train, or config.py of run folders to test as they are',
    )
    parser.add_argument('--budget', metavar='T', help='for the training of each, such as 10m')
    parser.add_argument('--seed', type=int, help='of weights, data and everything random')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/comparison'), help='folder')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change keys of all configs, such as test_dataloader.dataset.sets.1.count=100',
    )


def run(args: argparse.Namespace) -> None:
    """Bring every model as far as it goes, then write the report."""
    runs = name_runs(args.configs)
    if args.budget is not None:
        parse_duration(args.budget)  # a fault in it should not wait for the first training
    settings = dict(budget=args.budget, seed=args.seed, cfg_options=args.cfg_options)
    agree_on(settings, args.out / 'settings.json')
    results = []
    for number, (name, config) in enumerate(runs.items(), start=1):
        print(f'{name} ({number} of {len(runs)})', flush=True)
        try:
            results.append(_complete(name, config, args))
        except Exception as error:  # a config is a program and can raise anything
            fault = str(error) or type(error).__name__
            print(f'{name} has no figures: {fault}', flush=True)
            results.append(ModelResult(name=name, fault=fault))
    check_same_images(results)
    if all(result.fault for result in results):
        raise RuntimeError('no model has figures: ' + results[0].fault)
    print(write_comparison(results, args))
    if any(result.fault for result in results):
        sys.exit(1)


def name_runs(configs: list[Path]) -> dict[str, Path]:
    """Name every config by its stem, a run by its folder; with the folder's where two are alike."""
    for path in configs:
        if not path.is_file():
            raise FileNotFoundError(f'no config at {path}')
    own = [path.resolve().parent if path.name == 'config.py' else path for path in configs]
    counts = Counter(path.stem for path in own)
    names = [p.stem if counts[p.stem] == 1 else f'{p.resolve().parent.name}_{p.stem}' for p in own]
    if len(set(names)) < len(names):
        raise ValueError(f'two configs have one name: {sorted(names)}')
    return dict(zip(names, configs, strict=True))


def _complete(name: str, config: Path, args: argparse.Namespace) -> ModelResult:
    """Do what is not done yet of training, test and timing; return what they left."""
    folder, log = args.out / name, args.out / f'{name}.log'
    made_of = dict(config=digest_of(Config.fromfile(config)))
    if config.name == 'config.py':
        made_of['weights'] = sha256_of(config.parent / 'model.safetensors')
    agree_on(made_of, folder / 'made_of.json')
    changes = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    if config.name == 'config.py':
        trained = config.parent
    else:
        trained = folder
        if not (folder / 'model.safetensors').is_file():
            options = [] if args.budget is None else ['--budget', args.budget]
            options += [] if args.seed is None else ['--seed', str(args.seed)]
            work = ['--work-dir', folder, '--no-test', '--resume']  # from the start if none began
            launch('train', config, *work, *options, *changes, log=log)
    own = trained / 'config.py'
    if not (folder / 'test' / 'records.json').is_file():
        weights = ['--checkpoint', trained / 'model.safetensors']
        launch('test', own, *weights, '--out', folder / 'test', *changes, log=log)
    training = trained / 'train.json'  # weights from elsewhere have none
    return ModelResult(
        name=name,
        records=read_records(folder / 'test' / 'records.json'),
        training=json.loads(training.read_text(encoding='utf-8')) if training.is_file() else {},
        costs=_time(name, own, folder / 'latency.json', changes, log),
    )


def _time(name: str, config: Path, out: Path, changes: list[str], log: Path) -> dict:
    """Return what the model costs; nothing of one that cannot be timed, as it asks for labels."""
    if not out.is_file():
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        try:
            launch('latency', config, '--device', device, '--out', out, *changes, log=log)
        except RuntimeError as error:
            print(f'{name} is not timed: {error}', flush=True)
            return {}
    return json.loads(out.read_text(encoding='utf-8'))


def write_comparison(results: list[ModelResult], args: argparse.Namespace) -> str:
    """Write report.md, report.html, comparison.json and pictures; return the Markdown."""
    first = next(result.name for result in results if not result.fault)
    dataset = _test_set(name_runs(args.configs)[first], args.cfg_options)
    figures = measure(results)
    devices = {d for r in results for d in (r.training.get('device'), r.costs.get('device')) if d}
    context = {
        'data': dataset.describe(),
        'budget of each training': args.budget or 'none, full recipes',
        'seed': "the configs'" if args.seed is None else args.seed,
        'devices': ', '.join(sorted(devices)),
        'date': datetime.date.today().isoformat(),
        'versions': f'pipedet {__version__}, torch {torch.__version__}',
        'costs': 'from a frame of its input size to tips, batch 1, random weights; GFLOP counts a '
        'multiplication and an addition as two',
        'heatmap IoU': f'of where both reach {OVERLAP_LEVEL}, in images with tips',
        '*paper*': 'its own figures: its enhancer, its widths, its images',
    }
    pictures = draw_figures(results, figures, dataset, args.out)
    text = to_markdown(figures, context, pictures)
    body = markdown.markdown(text, extensions=['tables'])
    for name, content in {
        'report.md': text,
        'report.html': PAGE.format(body=body),
        'comparison.json': json.dumps({'context': context, **figures}, indent=1),
    }.items():
        (args.out / name).write_text(content, encoding='utf-8')
    return text


def _test_set(path: Path, changes: list[str]) -> Dataset:
    """Build the images that all were tested on."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    config = Config.fromfile(path)
    if changes:
        config.merge_from_dict(parser.parse_args(['--cfg-options', *changes]).cfg_options)
    return DATASETS.build(config.test_dataloader.dataset)
