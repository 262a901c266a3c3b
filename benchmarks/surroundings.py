"""What hides a tip: the scenes of the frozen set `standard` with other surroundings.

    python benchmarks/surroundings.py work_dirs/tipnet_s/calibrated --tissue FOLDER

Pipettes and detector stay; noise, cells, vessels, dye or texture are taken away, or all the tissue
gives way to that of real images: the PNGs in FOLDER, of two-photon microscopes, without pipettes
and with little noise. Tips of CNR 1 and more are the same in every row, by their CNR as drawn, but
before real tissue, where they are those that have it there. Writes
results/surroundings_NAME.json and the table between the marks in README.md; pictures of the real
tissue stay with the run, in surroundings.jpg.
"""

import argparse
import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from runs import name_of
from tables import rewrite

from pipedet.commands.calibrate import predictions
from pipedet.commands.common import device_name
from pipedet.datasets import FrozenPipettes
from pipedet.datasets.synthetic import describe_scene
from pipedet.engine.checkpoint import WEIGHTS, load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.evaluation import TipRecord, by_cnr, calibration, summarise
from pipedet.evaluation.metrics import to_record
from pipedet.evaluation.pictures import draw_record
from pipedet.evaluation.summary import paired_bootstrap
from pipedet.formats.digest import sha256_of
from pipedet.models.tip_detector import build_detector
from pipedet.registry import DATASETS
from pipedet.synthesis.backgrounds import SIZE
from pipedet.synthesis.difficulty import contrast_to_noise
from pipedet.synthesis.frozen import frozen_scene
from pipedet.synthesis.render import draw_pipettes, render_at
from pipedet.synthesis.scene import Scene
from pipedet.visualization import contact_sheet, write_picture

HERE = Path(__file__).parent
SUBSET, SEED = 'standard', 700
BRIGHTER = 16  # times as much light: a quarter of the noise
GRAIN_PX = 1.0  # real images are saved in few grey levels; this much blur takes the steps out
SHOWN = 12
KEYS = ('tip/acc@3um', 'tip/acc@5um', 'tip/acc@10um', 'tip/median_um')
CHOICE = ('open/recall@5um', 'open/precision@5um')


def without(*names: str) -> Callable[[Scene], Scene]:
    """Return what takes parts of the background out of a scene."""

    def change(scene: Scene) -> Scene:
        parts = ((name, getattr(scene, name)) for name in names)
        return replace(scene, **{name: replace(p, amplitude=0 * p.amplitude) for name, p in parts})

    return change


def brighter(scene: Scene) -> Scene:
    """Return a scene of more light, under which the electronics gain as much as the photons."""
    sensor = scene.sensor
    return replace(
        scene,
        sensor=replace(
            sensor,
            photons=sensor.photons * BRIGHTER,
            read_noise=sensor.read_noise * BRIGHTER**0.5,
        ),
    )


DRAWN, REAL = 'as drawn', 'real tissue'
EVERYTHING = ('tissue', 'shadows', 'plume', 'texture')
CHANGES: dict[str, Callable[[Scene], Scene]] = {
    DRAWN: lambda scene: scene,
    'a quarter of the noise': brighter,
    'no cells, specks': without('tissue'),
    'no vessels, debris': without('shadows'),
    'no dye plume': without('plume'),
    'no texture': without('texture'),
    'none of these four': without(*EVERYTHING),
    'none, a quarter of the noise': lambda scene: brighter(without(*EVERYTHING)(scene)),
}


class Surrounded(FrozenPipettes):
    """A frozen set, its scenes changed before they are exposed.

    Args:
        change: what becomes of a scene.
        tissue: expected brightness of real backgrounds, (H, W) each; none: those of the scenes.
        bare: whether the pipettes are taken out.
        count, pipeline: of the frozen set.
    """

    def __init__(
        self,
        *,
        change: Callable[[Scene], Scene],
        tissue: list[np.ndarray],
        bare: bool,
        count: int,
        pipeline: list[dict],
    ) -> None:
        super().__init__(subset=SUBSET, pipeline=pipeline, count=count)
        self.change, self.tissue, self.bare = change, tissue, bare

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Draw a scene, change it, expose it."""
        drawn, cnr = frozen_scene(self.subset, index)
        scene, light = self.change(drawn.scene), render_at
        if self.tissue:
            light = self._before_tissue(index)
            cnr = contrast_to_noise(scene, light)[0, drawn.labelled].numpy()
        if self.bare:
            scene = scene.bare()
        image = replace(drawn, scene=scene).capture(light=light)
        results = describe_scene(drawn, image, self.subset, index)
        results['tip_fields']['cnr'] = cnr
        if self.bare:
            results.update(tips=np.empty((0, 2), np.float32), tip_fields={})
        return results

    def _before_tissue(self, index: int) -> Callable[..., torch.Tensor]:
        """Return what renders the pipettes of a scene before a piece of real tissue."""
        rng = np.random.default_rng([SEED, index])
        whole = self.tissue[index % len(self.tissue)]
        top, left = (int(rng.integers(side - SIZE + 1)) for side in whole.shape)
        piece = np.rot90(whole[top : top + SIZE, left : left + SIZE], int(rng.integers(4)))
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        tissue = torch.from_numpy(piece.copy())

        def light(scene: Scene, ys: torch.Tensor, xs: torch.Tensor) -> torch.Tensor:
            rows, columns = (axis[0].long().clamp(0, SIZE - 1) for axis in (ys, xs))
            return draw_pipettes(tissue[rows][:, columns][None], scene, ys, xs)

        return light


def read_tissue(folder: Path) -> dict[str, np.ndarray]:
    """Return the images of a folder, by their names, as expected brightness, 1 on average."""
    paths = sorted(folder.glob('*.png'))
    if not paths:
        raise FileNotFoundError(f'{folder}: no PNG; give the folder of the background images')
    found = {}
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 2 or min(image.shape) < SIZE or not image.any():
            raise ValueError(f'{path}: needs to be a grey image of {SIZE} pixels a side or more')
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), GRAIN_PX)
        found[path.name] = smooth / smooth.mean()
    return found


def main(run: Path, folder: Path, scenes: int) -> None:
    """Measure, then write results, table and picture."""
    tune_cpu()
    config = Config.fromfile(run / 'config.py')
    model = build_detector(config.model)
    load_weights(run / WEIGHTS, model)
    model.to(memory_format=torch.channels_last).eval()
    tissue = read_tissue(folder)
    options = dict(
        type=Surrounded,
        change=CHANGES[DRAWN],
        tissue=[],
        bare=False,
        count=scenes,
        pipeline=config.predict_pipeline,
    )
    kinds = {name: dict(options, change=change) for name, change in CHANGES.items()}
    kinds[REAL] = dict(options, tissue=list(tissue.values()))
    rows, drawn = {}, []
    for name, kind in kinds.items():
        answers = predictions(model, kind)
        records = [to_record(sample.to_dict()) for sample in answers]
        drawn = drawn or records
        rows[name] = measure(answers, records, predictions(model, dict(kind, bare=True)))
        rows[name]['gain'] = paired_bootstrap(records, drawn, 'tip/acc@10um')
        print(name, rows[name], flush=True)
    _draw(DATASETS.build(kinds[REAL]), records, run / 'surroundings.jpg')
    found = dict(
        run=name_of(run),
        scenes=scenes,
        backgrounds={name: sha256_of(folder / name) for name in tissue},
        threshold=model.score_threshold,
        device=device_name('cpu'),
        date=datetime.date.today().isoformat(),
        rows=rows,
    )
    path = HERE / 'results' / f'surroundings_{found["run"]}.json'
    path.write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    rewrite(HERE / 'README.md', 'surroundings', to_markdown(found))


def measure(answers: list, records: list[TipRecord], bare: list) -> dict:
    """Return what is found, and what is found where there is nothing to find."""
    everything, seen = summarise(records), by_cnr(records)['>=1']
    judged = calibration.judge(answers)
    return dict(
        tips=sum(int((record.cnr >= 1).sum()) for record in records),
        seen={key: seen[key] for key in KEYS},
        all={key: everything[key] for key in (*KEYS, *CHOICE)},
        calibration_error=calibration.calibration_error(judged.scores, judged.correct),
        coverage=calibration.coverage(judged),
        unfamiliar=100.0 * sum(record.abstained for record in records) / len(answers),
        ghosts=summarise([to_record(sample.to_dict()) for sample in bare])['open/ghosts_per_image'],
    )


def _draw(dataset: Surrounded, records: list[TipRecord], path: Path) -> None:
    chosen = np.linspace(0, len(records) - 1, SHOWN).round().astype(int)
    tiles = [draw_record(dataset[int(i)], records[i], str(i), zoom=1) for i in chosen]
    write_picture(path, contact_sheet(tiles, columns=4))


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'{found["run"]}, {found["scenes"]} scenes of `{SUBSET}`, {len(found["backgrounds"])} real '
        f'backgrounds; answers from a score of {found["threshold"]:g}; {found["device"]}; '
        f'{found["date"]}.',
        '',
        '| surroundings | tips of CNR >= 1 | within 3 um, % | 5 | 10 | median, um | all tips: 10 '
        '| more than as drawn (95 %) | found within 5 um, % | of the answers right, % '
        '| ghosts a frame without pipettes | ECE | 90 % ellipse holds | unfamiliar, % |',
        '|---' * 14 + '|',
    ]
    for name, row in found['rows'].items():
        seen, everything = row['seen'], row['all']
        cells = [
            name,
            row['tips'],
            *(f'{seen[key]:.1f}' for key in KEYS[:3]),
            f'{seen["tip/median_um"]:.2f}',
            f'{everything["tip/acc@10um"]:.1f}',
            '-' if name == DRAWN else '{:+.1f} ({:.1f} to {:.1f})'.format(*row['gain']),
            *(f'{everything[key]:.1f}' for key in CHOICE),
            f'{row["ghosts"]:.3f}',
            f'{row["calibration_error"]:.3f}',
            f'{row["coverage"]:.2f}',
            f'{row["unfamiliar"]:.1f}',
        ]
        lines.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('run', type=Path, help='run folder, trained and calibrated')
    parser.add_argument('--tissue', type=Path, required=True, help='folder of real backgrounds')
    parser.add_argument('--scenes', type=int, default=500, help='of the frozen set, from the first')
    args = parser.parse_args()
    main(args.run, args.tissue, args.scenes)
