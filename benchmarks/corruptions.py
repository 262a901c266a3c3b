"""Pipette-C: what localisers come through, and whether they say when they do not.

    python benchmarks/corruptions.py work_dirs/tipnet_s/calibrated work_dirs/quickstart

Every RUN (a folder with config.py and model.safetensors) predicts scenes of the frozen set `clear`,
each of another session, clean and spoiled in fourteen ways and five severities
(`pipedet/synthesis/corruptions.py`, fixed before any model was tried on them), and frames that hold
no tip to find. Writes results/corruptions.json and the table between the marks in README.md.
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
from torch.utils.data import DataLoader, Subset

from pipedet.commands.common import device_name
from pipedet.datasets import CorruptedPipettes, FrozenPipettes, TipDataset
from pipedet.engine.checkpoint import load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import TipRecord, is_right, known_count, open_count
from pipedet.evaluation.metrics import to_record
from pipedet.models.tip_detector import TipDetector, build_detector
from pipedet.runtime.tips import why_unusable
from pipedet.synthesis import draw_scene
from pipedet.synthesis.beads import draw_micrograph
from pipedet.synthesis.corruptions import CORRUPTIONS
from pipedet.synthesis.frozen import COUNT
from pipedet.synthesis.stream import SCENES_PER_SESSION

HERE = Path(__file__).parent
HIT_UM = 5.0  # a tip is found
WRONG_UM = 10.0  # an answer farther off is a failure
SURE = (0.7, 0.9)  # confidences from which one may choose to rely on an answer
CLEAN = 'clean'
BASELINE = 'small_resnet50'  # of the mean corruption error
SCENES = len(range(0, COUNT, SCENES_PER_SESSION))  # eight neighbours may share a session
SHARES = (
    'wrong',
    *(f'{share}@{level}' for level in SURE for share in ('silent', 'expected', 'sure')),
    'abstained',
)


def main(runs: list[Path], scenes: int, empty: int) -> None:
    """Measure every run and write."""
    tune_cpu()
    path = HERE / 'results' / 'corruptions.json'
    frames = dict(set='clear', scenes=scenes, every=SCENES_PER_SESSION, frames_without_tips=empty)
    before = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}
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
    path.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    rewrite(HERE / 'README.md', 'corruptions', to_markdown(found))


@torch.no_grad()
def measure(run: Path, scenes: int, empty: int) -> dict:
    """Return what one model does with clean, spoiled and empty frames."""
    config = Config.fromfile(run / 'config.py')
    model = build_detector(config.model)
    load_weights(run / 'model.safetensors', model)
    model.to(memory_format=torch.channels_last).eval()
    pipeline = config.predict_pipeline
    kinds = {CLEAN: FrozenPipettes(subset='clear', pipeline=pipeline)}
    kinds |= {
        f'{name}/{severity}': CorruptedPipettes(
            subset='clear', corruption=name, severity=severity, pipeline=pipeline
        )
        for name in CORRUPTIONS
        for severity in range(1, 6)
    }
    counts, rows = {}, {}
    for kind, dataset in kinds.items():
        chosen = Subset(dataset, range(0, len(dataset), SCENES_PER_SESSION)[:scenes])
        counts[kind] = tally(predict(model, chosen))
        rows[kind] = summarise(counts[kind])
        print(run, kind, rows[kind], flush=True)
    return dict(
        rows=rows,
        retained={severities: _retained(counts, severities) for severities in ('1-3', '4-5')},
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


def tally(answers: list[Answer]) -> dict[str, np.ndarray]:
    """Return what is counted of each answer, by name."""
    records = [answer.record for answer in answers]
    given = ~np.array([record.abstained for record in records])
    wrong = given & ~np.array([is_right(record, WRONG_UM) for record in records])
    # What is not answered is not trusted.
    trusted = np.array([answer.confidence for answer in answers]) * given
    counts = dict(
        tips=np.array([len(record.true) for record in records]),
        hits=np.array([(known_count(record) < HIT_UM).sum() for record in records]),
        wrong=wrong,
        abstained=~given,
        confidence=trusted,
    )
    for level in SURE:
        sure = trusted >= level
        counts[f'silent@{level}'] = wrong & sure
        counts[f'expected@{level}'] = (1 - trusted) * sure  # what confidence says of its failures
        counts[f'sure@{level}'] = sure
    return counts


def summarise(counts: dict[str, np.ndarray]) -> dict[str, float]:
    """Return accuracy by the known count, and shares of images by what the answer was like, %."""
    return dict(
        accuracy=100.0 * float(counts['hits'].sum() / counts['tips'].sum()),
        **{share: 100.0 * float(counts[share].mean()) for share in SHARES},
        confidence=float(counts['confidence'].mean()),
    )


def _retained(counts: dict[str, dict[str, np.ndarray]], severities: str) -> dict:
    """Return the mean accuracy over clean accuracy, the mean shares, and their 95 % intervals.

    Scenes are drawn for these, each with all that was made of it.
    """
    low, high = map(int, severities.split('-'))
    own = [each for k, each in counts.items() if k != CLEAN and low <= int(k[-1]) <= high]
    # Of each scene: what is summed, over what.
    clean = counts[CLEAN]['hits']
    ratios = dict(accuracy=(np.mean([each['hits'] for each in own], axis=0), clean))
    for share in SHARES:
        ratios[share] = 100.0 * np.mean([each[share] for each in own], axis=0), np.ones(len(clean))
    draws = np.random.default_rng(0).multinomial(len(clean), [1 / len(clean)] * len(clean), 1000)
    kept, intervals = {}, {}
    for name, (above, below) in ratios.items():
        if not below.sum():  # there was nothing to retain
            kept[name] = None
            continue
        kept[name] = float(above.sum() / below.sum())
        some = draws[draws @ below > 0]
        intervals[name] = np.percentile((some @ above) / (some @ below), [2.5, 97.5]).tolist()
    return kept | dict(intervals=intervals)


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
        f'{found["scenes"]} scenes of `clear`, each of another session, '
        f'{found["frames_without_tips"]} frames of each kind without tips; 95 % intervals over '
        f'scenes; synthetic; {when}.',
        '',
        '| model | images | within 5 um, % | retained | wrong, % | '
        + ' | '.join(f'silent from {level} | expected | sure' for level in SURE)
        + ' | abstained |',
        '|---' * (6 + 3 * len(SURE)) + '|',
    ]
    for name, model in models.items():
        own = model['rows'][CLEAN]
        cells = [f'{own["accuracy"]:.1f}', '', *(f'{own[share]:.1f}' for share in SHARES)]
        lines.append(f'| {name} | clean | ' + ' | '.join(cells) + ' |')
        for severities, kept in model['retained'].items():
            shares = [_with_interval(kept, share, 1) for share in SHARES]
            cells = ['', _with_interval(kept, 'accuracy', 2), *shares]
            lines.append(f'| {name} | severity {severities} | ' + ' | '.join(cells) + ' |')
    lines += [
        '',
        f'| model | false tips without tips, % | at most | confidence falls in | '
        f'mCE ({BASELINE}: 100) |',
        '|---|---|---|---|---|',
    ]
    baseline = models.get(BASELINE)
    for name, model in models.items():
        empty, falls = model['without_tips'], model['confidence_falls']
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


def _with_interval(kept: dict, name: str, digits: int) -> str:
    if kept[name] is None:
        return '-'
    low, high = kept['intervals'][name]
    return f'{kept[name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs')
    parser.add_argument(
        '--scenes',
        type=int,
        default=SCENES,
        choices=range(1, SCENES + 1),
        metavar='N',
        help='of `clear` [%(default)s, all]',
    )
    parser.add_argument('--empty', type=int, default=50, help='frames of each kind [%(default)s]')
    args = parser.parse_args()
    main(args.runs, args.scenes, args.empty)
