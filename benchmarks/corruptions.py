"""Pipette-C: what localisers come through, and whether they say when they do not.

    python benchmarks/corruptions.py work_dirs/tipnet_s/calibrated work_dirs/quickstart

Every RUN (a folder with config.py and model.safetensors) predicts the first scenes of the frozen
set `clear`, clean and spoiled in fourteen ways and five severities (`pipedet/synthesis/
corruptions.py`, fixed before any model was tried on them), and frames that hold no tip to find.
Writes results/corruptions.json and the table between the marks in README.md.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from runs import name_of
from scipy.stats import beta
from tables import rewrite
from torch.utils.data import DataLoader

from pipedet.commands.common import device_name
from pipedet.datasets import CorruptedPipettes, FrozenPipettes, TipDataset
from pipedet.engine.checkpoint import load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import TipRecord, is_right, open_count, summarise
from pipedet.evaluation.metrics import to_record
from pipedet.models.tip_detector import TipDetector, build_detector
from pipedet.runtime.tips import why_unusable
from pipedet.synthesis import draw_scene
from pipedet.synthesis.beads import draw_micrograph
from pipedet.synthesis.corruptions import CORRUPTIONS

HERE = Path(__file__).parent
WRONG_UM = 10.0  # an answer farther off is a failure
SURE = (0.5, 0.7)  # confidences from which one may choose to rely on an answer
CLEAN = 'clean'
BASELINE = 'small_resnet50'  # of the mean corruption error
SHARES = (
    'wrong',
    *(f'{share}@{level}' for level in SURE for share in ('silent', 'sure')),
    'abstained',
)


def main(runs: list[Path], scenes: int, empty: int) -> None:
    """Measure every run and write."""
    tune_cpu()
    path = HERE / 'results' / 'corruptions.json'
    frames = dict(set='clear', scenes=scenes, frames_without_tips=empty)
    before = json.loads(path.read_text()) if path.is_file() else {}
    # Models measured before on the same frames keep their rows.
    same = all(before.get(key) == value for key, value in frames.items())
    models = before['models'] if same else {}
    circumstances = dict(
        device=device_name('cpu'),
        torch=torch.__version__,
        date=datetime.date.today().isoformat(),
    )
    for run in runs:
        models[name_of(run)] = circumstances | measure(run, scenes, empty)
    found = frames | dict(models=models)
    path.write_text(json.dumps(found, indent=1) + '\n')
    rewrite(HERE / 'README.md', 'corruptions', to_markdown(found))


@torch.no_grad()
def measure(run: Path, scenes: int, empty: int) -> dict:
    """Return what one model does with clean, spoiled and empty frames."""
    config = Config.fromfile(run / 'config.py')
    model = build_detector(config.model)
    load_weights(run / 'model.safetensors', model)
    model.to(memory_format=torch.channels_last).eval()
    pipeline = config.predict_pipeline
    kinds = {CLEAN: FrozenPipettes(subset='clear', pipeline=pipeline, count=scenes)}
    kinds |= {
        f'{name}/{severity}': CorruptedPipettes(
            subset='clear', corruption=name, severity=severity, pipeline=pipeline, count=scenes
        )
        for name in CORRUPTIONS
        for severity in range(1, 6)
    }
    rows = {}
    for kind, dataset in kinds.items():
        rows[kind] = judge(predict(model, dataset))
        print(run, kind, rows[kind], flush=True)
    return dict(
        rows=rows,
        retained={severities: _retained(rows, severities) for severities in ('1-3', '4-5', '1-5')},
        without_tips=false_tips(model, pipeline, empty),
        confidence_falls=sum(
            rows[f'{name}/5']['confidence'] < rows[f'{name}/1']['confidence']
            for name in CORRUPTIONS
        ),
    )


class Answer(NamedTuple):
    """What a model said of one image; a model that knows no confidence is always sure."""

    record: TipRecord
    confidence: float


def predict(model: TipDetector, dataset) -> list[Answer]:
    """Return the answer to each image."""
    loader = DataLoader(dataset, batch_size=16, collate_fn=pseudo_collate)
    samples = [sample for batch in loader for sample in model.test_step(batch)]
    return [
        Answer(
            to_record(sample.to_dict()),
            confidence=sample.get('confidence', 1.0),
        )
        for sample in samples
    ]


def judge(answers: list[Answer]) -> dict:
    """Return accuracy by the known count, and shares of images by what the answer was like, %."""
    given = [answer for answer in answers if not answer.record.abstained]
    wrong = [answer for answer in given if not is_right(answer.record, WRONG_UM)]
    return dict(
        accuracy=summarise([answer.record for answer in answers])['tip/acc@5um'],
        wrong=100.0 * len(wrong) / len(answers),
        **{
            f'{share}@{level}': 100.0 * sum(a.confidence >= level for a in those) / len(answers)
            for level in SURE
            for share, those in (('silent', wrong), ('sure', given))
        },
        abstained=100.0 * (len(answers) - len(given)) / len(answers),
        # What is not answered is not trusted.
        confidence=float(np.mean([0 if a.record.abstained else a.confidence for a in answers])),
    )


def _retained(rows: dict, severities: str) -> dict:
    """Return the mean accuracy over clean accuracy, and the mean shares."""
    low, high = map(int, severities.split('-'))
    own = [row for k, row in rows.items() if k != CLEAN and low <= int(k.split('/')[1]) <= high]
    spoiled, clean = float(np.mean([row['accuracy'] for row in own])), rows[CLEAN]['accuracy']
    return dict(
        accuracy=spoiled / clean if clean else None,  # there was nothing to retain
        **{key: float(np.mean([row[key] for row in own])) for key in SHARES},
    )


def mean_corruption_error(rows: dict, baseline: dict) -> float:
    """Return the errors of each corruption over those of another model, the mean in %.

    An error is a tip not found within 5 um (mCE: Hendrycks and Dietterich 2019, arXiv 1903.12261).
    """

    def errors(own: dict, corruption: str) -> float:
        return sum(100 - own[f'{corruption}/{severity}']['accuracy'] for severity in range(1, 6))

    return 100 * float(np.mean([errors(rows, c) / errors(baseline, c) for c in CORRUPTIONS]))


def false_tips(model: TipDetector, pipeline: list, count: int) -> dict:
    """Return the share of frames without a tip, of each kind, in which one is answered, in %."""
    found = {}
    for kind, draw in EMPTY.items():
        images = [draw(np.random.default_rng([7, i])) for i in range(count)]
        # What the package does not show to any network is not answered.
        shown = [image for image in images if why_unusable(image) is None]
        answers = predict(model, _Frames(shown, pipeline)) if shown else []
        wrong = sum(open_count(answer.record, WRONG_UM)[1] > 0 for answer in answers)
        found[kind] = 100.0 * float(wrong) / count
    found['all'] = float(np.mean(list(found.values())))
    # Rule of three and its kin: what the share may be, one-sided 95 % (Clopper and Pearson 1934).
    n, k = count * len(EMPTY), round(found['all'] / 100 * count * len(EMPTY))
    found['at most'] = 100.0 * float(beta.ppf(0.95, k + 1, n - k))
    return found


class _Frames(TipDataset):
    """Images without tips, as a dataset."""

    def __init__(self, images: list[np.ndarray], pipeline: list) -> None:
        super().__init__(pipeline=pipeline, seed=0)
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int, rng: np.random.Generator) -> dict:
        return dict(
            image=self.images[index],
            tips=np.empty((0, 2), np.float32),
            tip_fields={},
            source=f'empty/{index:06d}',
            frame=0,
            session='empty',
            subset='empty',
            pixel_size_um=(0.75, 0.75),
        )


def _without_tips(rng: np.random.Generator) -> np.ndarray:
    """Return a field of tissue, half of them crossed by a shaft whose tip lies outside."""
    while True:  # a few shafts that were to miss the field end in it
        drawn = draw_scene('empty', seed=99, epoch=0, index=int(rng.integers(1 << 30)))
        if not len(drawn.tips):
            return drawn.capture()


def _overexposed(image: np.ndarray) -> np.ndarray:
    """Return an image half of whose pixels are at full scale."""
    return image.clip(max=int(np.median(image)))


def _fractal(rng: np.random.Generator) -> np.ndarray:
    """What natural photographs share: power falls with the square of frequency, edges do not."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    spectrum = np.fft.fft2(rng.standard_normal((256, 256))) / (frequency + 1e-3)
    image = np.fft.ifft2(spectrum).real
    y, x = np.mgrid[:256, :256]
    for _ in range(6):
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(0, 256, 2)
        side = (x - place[0]) * np.cos(angle) + (y - place[1]) * np.sin(angle) > 0
        image += image.std() * rng.uniform(-1, 1) * side
    image = 4000 + 1000 * (image - image.mean()) / image.std()
    return image.clip(0).astype(np.uint16)


EMPTY = {
    'black': lambda rng: np.zeros((256, 256), np.uint8),
    'uniform': lambda rng: np.full((256, 256), rng.integers(1, 255), np.uint8),
    'noise': lambda rng: rng.poisson(rng.uniform(5, 100), (256, 256)).astype(np.uint16),
    'tissue or tip outside': _without_tips,
    'natural': _fractal,
    'electron micrograph': lambda rng: draw_micrograph(rng, size=(256, 256), beads=8).image,
    'overexposed': lambda rng: _overexposed(_without_tips(rng)),
    'stripes': lambda rng: np.tile(
        (100 + 50 * np.sin(np.arange(256) / rng.uniform(2, 20))).astype(np.uint8), (256, 1)
    ),
}


def to_markdown(found: dict) -> str:
    """Return the summary and the table of every corruption."""
    models = found['models']
    when = '; '.join(sorted({f'{own["device"]}, {own["date"]}' for own in models.values()}))
    lines = [
        f'First {found["scenes"]} scenes of `clear`, {found["frames_without_tips"]} frames of each '
        f'kind without tips; synthetic; {when}.',
        '',
        '| model | images | within 5 um, % | retained | wrong, % | '
        + ' | '.join(f'silent from {level} | sure' for level in SURE)
        + ' | abstained |',
        '|---' * (6 + 2 * len(SURE)) + '|',
    ]
    for name, model in models.items():
        clean, kept = model['rows'][CLEAN], model['retained']
        spoiled = {f'severity {severities}': kept[severities] for severities in ('1-3', '4-5')}
        for kind, part in {CLEAN: clean, **spoiled}.items():
            share = part['accuracy']
            own, retained = f'{share:.1f}' if part is clean else '', ''
            if part is not clean:
                retained = '-' if share is None else f'{share:.2f}'
            cells = [own, retained, *(f'{part[key]:.1f}' for key in SHARES)]
            lines.append(f'| {name} | {kind} | ' + ' | '.join(cells) + ' |')
    lines += [
        '',
        f'| model | false tips without tips, % | at most | confidence falls in | '
        f'mCE ({BASELINE}: 100) |',
        '|---|---|---|---|---|',
    ]
    baseline = models.get(BASELINE)
    for name, model in models.items():
        empty, falls = model['without_tips'], model.get('confidence_falls', '-')
        error = f'{mean_corruption_error(model["rows"], baseline["rows"]):.0f}' if baseline else '-'
        lines.append(
            f'| {name} | {empty["all"]:.1f} | {empty["at most"]:.1f} | {falls} | {error} |'
        )
    lines += [
        '',
        '| within 5 um, % | ' + ' | '.join(models) + ' |',
        '|---' * (len(models) + 1) + '|',
    ]
    for corruption in CORRUPTIONS:
        cells = [
            ' / '.join(f'{m["rows"][f"{corruption}/{s}"]["accuracy"]:.0f}' for s in range(1, 6))
            for m in models.values()
        ]
        lines.append(f'| {corruption}, 1 / 2 / 3 / 4 / 5 | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs')
    parser.add_argument('--scenes', type=int, default=24, help='of `clear` [%(default)s]')
    parser.add_argument('--empty', type=int, default=50, help='frames of each kind [%(default)s]')
    args = parser.parse_args()
    main(args.runs, args.scenes, args.empty)
