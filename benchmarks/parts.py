"""What each choice in the quickstart is worth: the same lesson with one part exchanged at a time.

    python benchmarks/parts.py --work-dir work_dirs/parts --scenes 4000

All are `configs/quickstart.py` or variants of it in `configs/ablations`, trained on as many images
and judged on scenes of the validation's stream, never on a frozen set. Parts are exchanged in
MobileNetV4-small, which the quickstart had before, and compared with that row. Those that are
trained already are only judged: after a change of the quickstart take another folder. Writes
results/parts.json and the table between the marks in README.md.
"""

import argparse
import datetime
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from tables import rewrite
from torch.utils.data import DataLoader

from pipedet.engine.checkpoint import load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import bootstrap, by_cnr, summarise
from pipedet.evaluation.metrics import to_record
from pipedet.models.tip_detector import build_detector
from pipedet.registry import DATASETS
from pipedet.synthesis import draw_scene

HERE = Path(__file__).parent
CONFIGS = HERE.parent / 'configs'
QUICKSTART = CONFIGS / 'quickstart.py'
EPOCHS = 2
RECIPE = 'standard'
KEYS = ('tip/acc@3um', 'tip/acc@5um', 'tip/acc@10um', 'tip/median_um')
MOBILENET = 'model.encoder.name=mobilenetv4_conv_small'
# Name -> options of `pipedet train`.
EXCHANGED = {
    'large kernels': ['model.encoder.large_kernels=[[],[9],[13,13]]'],
    'not tied': ['model.encoder.equivariant=False'],
    'a level of stride 32 more': ['model.encoder.levels=[1,2,3,4]'],
    'no level of stride 16': ['model.encoder.levels=[1,2]'],
    'half as wide': ['model.encoder.name=mobilenetv4_conv_small_050'],
    'maps of 64 channels': ['model.encoder.channels=64', 'model.coarse.hidden=64'],
    'no local contrast': ['model.encoder.contrast_radii=[]'],
    'Dice loss': ['model.coarse.loss.type=pipedet.DiceLoss'],
    'AdamW': [
        'optim_wrapper.optimizer.type=AdamW',
        'optim_wrapper.optimizer.lr=0.003',
        'train_cfg.stages.0.lr=0.003',
    ],
    'batches of 32': ['train_dataloader.batch_size=32'],
    # Blurred as far, and with the stem that has such a level.
    'a map of stride 2, its own stem': [
        'model.encoder.levels=[0,1,2,3]',
        'model.encoder.patch_stem=False',
        'model.coarse.out_stride=2',
        'model.coarse.blur=1.6',
    ],
}
STEM = 'model.encoder.patch_stem=False'
ENCODERS = {
    'MobileNetV4-small': [MOBILENET],
    'CSPDarknet-small (as it is)': [],
    'CSPDarknet-small, its own stem': [STEM],
    'MobileNetV3-small, its own stem': ['model.encoder.name=mobilenetv3_small_100', STEM],
}
# Name -> file in `configs/ablations` and options.
HEADS = {
    "TipNet's head": ('tip_head', [MOBILENET]),
    'averaged weights': ('averaged', [MOBILENET]),
    'SimCC, one to one': ('simcc', [MOBILENET]),
    'queries, one to one': ('queries', ['model.fine.encoder.name=mobilenetv4_conv_small']),
}
TRAINED = {
    **{name: (QUICKSTART, options) for name, options in ENCODERS.items()},
    **{name: (QUICKSTART, [MOBILENET, *options]) for name, options in EXCHANGED.items()},
    **{
        name: (CONFIGS / 'ablations' / f'{file}.py', options)
        for name, (file, options) in HEADS.items()
    },
}
# Name -> what is changed in the first of them before it is judged.
READ = {
    'peaks by soft-argmax': dict(refine='centroid'),
    'peaks of the unblurred map': dict(blur=0.0),
}


def main(work_dir: Path, scenes: int, judged: int) -> None:
    """Train what is not trained yet, judge all, and write."""
    tune_cpu()
    plain, rows = work_dir / next(iter(TRAINED)).replace(' ', '_'), {}
    for name, (config, options) in TRAINED.items():
        run = work_dir / name.replace(' ', '_')
        if not (run / 'model.safetensors').is_file():
            _train(config, run, scenes, options)
        record = json.loads((run / 'train.json').read_text(encoding='utf-8'))
        rows[name] = dict(config=str(config.relative_to(CONFIGS)), options=options)
        rows[name] |= judge(run, judged)
        rows[name]['ms_per_image'] = 1000 * record['train_s'] / record['samples_seen']
        print(name, rows[name], flush=True)
    for name, change in READ.items():
        rows[name] = dict(options=change) | judge(plain, judged, change)
    record = json.loads((plain / 'train.json').read_text(encoding='utf-8'))
    found = dict(
        images=record['samples_seen'],
        judged=judged,
        device=record['device'],
        seed=0,
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
        variants=rows,
    )
    (HERE / 'results' / 'parts.json').write_text(
        json.dumps(found, indent=1) + '\n', encoding='utf-8'
    )
    rewrite(HERE / 'README.md', 'parts', to_markdown(found))


def _train(config: Path, run: Path, scenes: int, options: list[str]) -> None:
    lesson = [
        f'train_dataloader.dataset.length={scenes}',
        f'train_cfg.stages.0.epochs={EPOCHS}',
    ]
    command = [sys.executable, '-m', 'pipedet', 'train', str(config), '--work-dir', str(run)]
    subprocess.run([*command, '--no-test', '--cfg-options', *lesson, *options], check=True)


@torch.no_grad()
def judge(run: Path, count: int, change: dict | None = None) -> dict:
    """Return a run's figures, its heatmap head changed, on scenes of its validation's stream."""
    config = Config.fromfile(run / 'config.py')
    if change:
        config.model.coarse.update(change)
    model = build_detector(config.model)
    load_weights(run / 'model.safetensors', model)
    model.to(memory_format=torch.channels_last).eval()
    stream = dict(config.val_dataloader.dataset, recipes={RECIPE: 1.0}, length=count)
    dataset = DATASETS.build(stream)
    loader = DataLoader(dataset, batch_size=16, collate_fn=pseudo_collate)
    samples = [sample for batch in loader for sample in model.test_step(batch)]
    records = [
        replace(to_record(sample.to_dict()), cnr=cnr)
        for sample, cnr in zip(samples, _cnr(dataset.seed, count), strict=True)
    ]
    summary, seen = summarise(records), by_cnr(records)['>=1']
    return dict(
        parameters=sum(p.numel() for p in model.parameters()),
        all={key: summary[key] for key in KEYS},
        interval=bootstrap(records, 'tip/acc@10um'),
        seen={key: seen[key] for key in KEYS},
    )


@cache
def _cnr(seed: int, count: int) -> list[np.ndarray]:
    """Return the CNR of the tips in each scene to judge on, which a stream does not carry."""
    return [
        draw_scene(RECIPE, seed=seed, epoch=0, index=index).cnr.numpy() for index in range(count)
    ]


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'Each trained on {found["images"]} images (seed {found["seed"]}) and judged on '
        f'{found["judged"]} scenes of the validation stream; synthetic; {found["device"]}; '
        f'{found["date"]}, torch {found["torch"]}.',
        '',
        '| quickstart with | parameters, M | ms an image in training | within 3 um, % | 5 | '
        '10 (95 %) | CNR >= 1: 3 | 5 | 10 | median, um |',
        '|---' * 10 + '|',
    ]
    for name, row in found['variants'].items():
        low, high = row['interval']
        time = f'{row["ms_per_image"]:.0f}' if 'ms_per_image' in row else ''
        three, five, ten, _ = row['all'].values()
        lines.append(
            f'| {name} | {row["parameters"] / 1e6:.2f} | {time} | {three:.1f} | {five:.1f} | '
            f'{ten:.1f} ({low:.1f} to {high:.1f}) | '
            + ' | '.join(f'{row["seen"][key]:.1f}' for key in KEYS[:3])
            + f' | {row["seen"]["tip/median_um"]:.2f} |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--scenes', type=int, default=4800, help='in an epoch [%(default)s]')
    parser.add_argument('--judged', type=int, default=500, help='scenes to judge on [%(default)s]')
    args = parser.parse_args()
    main(args.work_dir, args.scenes, args.judged)
