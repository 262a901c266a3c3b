"""Does enhancement help to find tips, and how much of it comes from knowing where to crop?

    python benchmarks/enhancement.py --localiser work_dirs/untied \
        --enhancers work_dirs/cyclegan_small work_dirs/pix2pix_small work_dirs/runet_small

Every enhancer, trained or classical, is put before the same trained localiser in three ways; the
localiser is trained on with it in place for the same number of steps, and tested on the frozen set
`standard`. Raw images go through the same. results/enhancement.json is written after every cell,
and a run goes on from there; then the tables in README.md.
"""

import argparse
import datetime
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tables import rewrite
from torch import Tensor

from pipedet.commands.common import build_runner, device_name
from pipedet.commands.latency import measure
from pipedet.datasets import FrozenPipettes, PackTips, ScenePairs, SyntheticPipettes, ToUnit
from pipedet.engine.checkpoint import load_part, load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import TipMetric, by_cnr, summarise
from pipedet.evaluation.frechet import frechet_distance
from pipedet.evaluation.tip_contrast import measure_tip_contrast
from pipedet.models.detectors import HeatmapDetector
from pipedet.models.enhancers.enhancement import CROPS
from pipedet.models.image_losses import correlation, ssim
from pipedet.models.parts import unwrap
from pipedet.models.preprocessor import from_unit
from pipedet.models.tiling import tiled
from pipedet.registry import MODELS
from pipedet.synthesis import frozen_scene

HERE = Path(__file__).parent
OUT = HERE / 'results' / 'enhancement.json'
CLASSICAL = {
    'CLAHE': dict(type='pipedet.CLAHE', clip_limit=2.0),
    'top-hat': dict(type='pipedet.TopHat', size=9),
    'non-local means': dict(type='pipedet.NonLocalMeans', strength=1.0),
}
IMAGES = 200  # for distances between sets of images


def main(args: argparse.Namespace) -> None:
    """Measure what is missing, then write the table."""
    tune_cpu()
    settings = dict(
        device=device_name('cuda' if torch.cuda.is_available() else 'cpu'),
        torch=torch.__version__,
        localiser=args.localiser.name,
        fine_tuning=dict(steps=args.steps, lr=args.lr, seed=0),
        test=dict(set='standard', scenes=args.scenes, contrast_scenes=args.contrast_scenes),
        weights={run.name: _digest(run) for run in (args.localiser, *args.enhancers)},
    )
    result = json.loads(OUT.read_text(encoding='utf-8')) if OUT.is_file() else {}
    if result.get('settings') != settings:  # figures of other weights or steps are no use
        result = dict(settings=settings, cells={}, images={})
    result['date'] = datetime.date.today().isoformat()
    generators = _generators(args.enhancers)
    for name, (config, weights) in generators.items():
        if name not in result['images']:
            print(f'{name}: images', flush=True)
            result['images'][name] = measure_images(config, weights, args)
            OUT.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    cells = [('none', None, None, 'none')]
    cells += [(name, *own, crop) for name, own in generators.items() for crop in CROPS]
    for name, config, weights, crop in cells:
        key = f'{name}, {crop}'
        if key not in result['cells']:
            print(key, flush=True)
            result['cells'][key] = measure_localisation(config, weights, crop, args)
            OUT.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    rewrite(HERE / 'README.md', 'enhancement', table(result))


def _generators(runs: list[Path]) -> dict[str, tuple[dict, Path | None]]:
    """Return config and weights of every generator, by name."""
    found = {name: (config, None) for name, config in CLASSICAL.items()}
    for run in runs:
        config = Config.fromfile(run / 'config.py').model.generator
        found[run.name] = (config, run / 'model.safetensors')
    return found


def _digest(run: Path) -> str:
    return (run / 'model.safetensors.sha256').read_text(encoding='utf-8').split()[0]


def _build(config: dict, weights: Path | None) -> torch.nn.Module:
    generator = MODELS.build(config)
    if weights is not None:
        load_part(weights, 'generator', generator)
    return generator.to(memory_format=torch.channels_last).eval()


@torch.no_grad()
def measure_images(config: dict, weights: Path | None, args: argparse.Namespace) -> dict:
    """Return likeness to the clean images, contrast-to-noise of tips and distances of domains."""
    generator = _build(config, weights)

    def enhance(images: Tensor) -> Tensor:
        return torch.cat([tiled(generator, image[None]) for image in images]).clamp(0, 1)

    pairs = ScenePairs(
        recipes=dict(standard=1.0), length=IMAGES, pipeline=[dict(type=ToUnit)], seed=3
    )
    bath = SyntheticPipettes(
        recipes=dict(brightfield=1.0), length=IMAGES, pipeline=[dict(type=ToUnit)], seed=3
    )
    scenes = [pairs[i] for i in range(IMAGES)]
    noisy, clean = (_stack([scene[key] for scene in scenes]) for key in ('image', 'clean'))
    exvivo = _stack([bath[i]['image'] for i in range(IMAGES)])
    enhanced = enhance(noisy)
    features = [_features(args.localiser, images) for images in (noisy, enhanced, clean, exvivo)]
    ratios = [
        measure_tip_contrast(enhance, frozen_scene('standard', i)[0], exposures=6, seed=i)
        for i in range(args.contrast_scenes)
    ]
    before, after = (np.concatenate(values) for values in zip(*ratios, strict=True))
    seen = before > 0.1  # a ratio to next to nothing says nothing
    distance = [
        [frechet_distance(features[a], features[b]) for a in (0, 1)] for b in (2, 3)
    ]  # [to clean, to ex vivo][before, after]
    return dict(
        ssim=[ssim(x, clean).mean().item() for x in (noisy, enhanced)],
        pcc=[correlation(x, clean).mean().item() for x in (noisy, enhanced)],
        mse=[(x - clean).square().mean().item() for x in (noisy, enhanced)],
        tip_cnr=[float(np.median(before[seen])), float(np.median(after[seen]))],
        tip_cnr_gain=float(np.median(after[seen] / before[seen])),
        tips=int(seen.sum()),
        frechet_clean=distance[0],
        frechet_exvivo=distance[1],
    )


def _stack(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images).astype(np.float32))[:, None]


def _features(run: Path, images: Tensor) -> np.ndarray:
    """Mean features of the localiser's encoder, (N, C): the feature network that is at hand."""
    model = MODELS.build(Config.fromfile(run / 'config.py').model).eval()
    load_weights(run / 'model.safetensors', model)
    parts = [model.encoder(from_unit(part)).mean(dim=(2, 3)) for part in images.split(8)]
    return torch.cat(parts).numpy()


def measure_localisation(
    config: dict | None, weights: Path | None, crop: str, args: argparse.Namespace
) -> dict:
    """Train the localiser on behind an enhancer, then test both; return the figures."""
    cfg = Config.fromfile(args.localiser / 'config.py')
    cfg.model.average_views = False
    cfg.model.enhancer = config and dict(type='pipedet.Enhancement', generator=config, crop=crop)
    cfg.train_dataloader.dataset.length = cfg.train_dataloader.batch_size * args.steps
    cfg.train_dataloader.dataset.seed = 5  # scenes that the localiser has not seen
    stage = cfg.train_cfg.stages[0]
    stage.epochs, stage.lr = 1, args.lr
    cfg.val_dataloader.dataset.length = 8
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir, cfg.resume = folder, False
        runner = build_runner(cfg)
        model = unwrap(runner.model)
        for part in ('encoder', 'coarse'):
            load_part(args.localiser / 'model.safetensors', part, model.get_submodule(part))
        if weights is not None:
            load_part(weights, 'generator', model.enhancer.generator)
        started = time.perf_counter()
        runner.train()
        trained_s = time.perf_counter() - started
        records = test(model, args.scenes)
    figures = dict(train_s=round(trained_s, 1), summary=summarise(records))
    figures['cnr>=1'] = by_cnr(records)['>=1']
    if crop != 'oracle':
        timed = measure(cfg, 'cpu', [1], warmup=3, runs=30)
        figures['latency_ms'] = {p: timed['batches'][0][f'{p}_ms'] for p in ('p50', 'p99')}
        figures['gflop'] = timed['gflop']
    return figures


@torch.no_grad()
def test(model: HeatmapDetector, scenes: int) -> list:
    """Return the records of the first `scenes` of the frozen set `standard`."""
    dataset = FrozenPipettes(subset='standard', pipeline=[dict(type=PackTips)], count=scenes)
    metric = TipMetric()
    model.eval()
    for i in range(scenes):
        batch = pseudo_collate([dataset[i]])
        metric.process(batch, [sample.to_dict() for sample in model.test_step(batch)])
    metric.evaluate(scenes)
    return metric.records


def table(result: dict) -> str:
    """Return both tables in Markdown."""
    own = result['settings']
    lines = [
        f'{own["device"]}; {result["date"]}; torch {own["torch"]}. Localiser: {own["localiser"]}, '
        f'one view, trained on for {own["fine_tuning"]["steps"]} steps in each cell, tested on the '
        f'first {own["test"]["scenes"]} scenes of `standard`; synthetic.\n',
        '| enhancer | crop | within 3 um, % | 5 | 10 | CNR >= 1: 3 | 5 | 10 | F1@5, % | p50, ms '
        '| p99 | GFLOP |',
        '|---|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    for key, cell in result['cells'].items():
        name, crop = key.rsplit(', ', 1)
        values = [cell['summary'][f'tip/acc@{r}um'] for r in (3, 5, 10)]
        values += [cell['cnr>=1'][f'tip/acc@{r}um'] for r in (3, 5, 10)]
        values += [cell['summary']['open/f1@5um']]
        times = cell.get('latency_ms')
        costs = [times['p50'], times['p99'], cell['gflop']] if times else []
        shown = [f'{v:.1f}' for v in values + costs] + ['-'] * (0 if times else 3)
        crop = f'**{crop}**' if crop == 'oracle' else crop
        lines.append(f'| {name} | {crop} | ' + ' | '.join(shown) + ' |')
    lines += [
        '\n| enhancer | SSIM | PCC | MSE | tip CNR, median | gain, median '
        '| Frechet distance to clean | to ex vivo |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for name, own in result['images'].items():
        cells = [f'{a:.3f} → {b:.3f}' for a, b in (own['ssim'], own['pcc'])]
        cells += ['{:.4f} → {:.4f}'.format(*own['mse']), '{:.2f} → {:.2f}'.format(*own['tip_cnr'])]
        cells += [f'{own["tip_cnr_gain"]:.2f}']
        cells += [f'{a:.2f} → {b:.2f}' for a, b in (own['frechet_clean'], own['frechet_exvivo'])]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--localiser', type=Path, required=True, help='run folder')
    parser.add_argument('--enhancers', type=Path, nargs='+', required=True, help='run folders')
    parser.add_argument('--steps', type=int, default=120, help='of fine-tuning [%(default)s]')
    parser.add_argument('--lr', type=float, default=0.005, help='of fine-tuning [%(default)s]')
    parser.add_argument('--scenes', type=int, default=250, help='tested [%(default)s]')
    parser.add_argument('--contrast-scenes', type=int, default=40, help='[%(default)s]')
    main(parser.parse_args())
