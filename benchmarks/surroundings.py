"""What hides a tip: the scenes of the frozen set `standard` with other surroundings.

    python benchmarks/surroundings.py work_dirs/tipnet_s/calibrated --tissue FOLDER

Pipettes and detector stay; noise, cells, vessels, dye or texture are taken away, or all the tissue
gives way to that of real images: the PNGs in FOLDER, of two-photon microscopes, without pipettes
and with little noise. Tips of CNR 1 and more are the same in every row, by their CNR as drawn, but
before real tissue, where they are those that have it there. Writes results/surroundings.json and
the table between the marks in README.md; pictures of the real tissue stay with the run, in
surroundings.jpg.
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
from pipedet.evaluation import bootstrap, by_cnr, summarise
from pipedet.evaluation.metrics import to_record
from pipedet.evaluation.pictures import draw_record
from pipedet.models.tip_detector import build_detector
from pipedet.registry import DATASETS
from pipedet.synthesis.backgrounds import SIZE
from pipedet.synthesis.difficulty import contrast_to_noise
from pipedet.synthesis.frozen import frozen_scene
from pipedet.synthesis.render import draw_pipettes, render_at
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import expose
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
        parts = {name: getattr(scene, name) for name in names}
        return replace(
            scene,
            **{
                name: replace(part, amplitude=torch.zeros_like(part.amplitude))
                for name, part in parts.items()
            },
        )

    return change


def brighter(scene: Scene) -> Scene:
    """Return a scene of more light, under which the electronics are as noisy as the photons."""
    sensor = scene.sensor
    return replace(
        scene,
        sensor=replace(
            sensor,
            photons=sensor.photons * BRIGHTER,
            read_noise=sensor.read_noise * BRIGHTER**0.5,
        ),
    )


EVERYTHING = ('tissue', 'shadows', 'plume', 'texture')
CHANGES: dict[str, Callable[[Scene], Scene]] = {
    'as drawn': lambda scene: scene,
    'a quarter of the noise': brighter,
    'no cells, specks': without('tissue'),
    'no vessels, debris': without('shadows'),
    'no dye plume': without('plume'),
    'no texture': without('texture'),
    'none of these four': without(*EVERYTHING),
    'none, a quarter of the noise': lambda scene: brighter(without(*EVERYTHING)(scene)),
}
REAL = 'real tissue'


class Surrounded(FrozenPipettes):
    """A frozen set, its scenes changed before they are exposed.

    Args:
        change: what becomes of a scene.
        tissue: expected brightness of real backgrounds, (H, W) each; none: those of the scenes.
        bare: whether the pipettes are taken out.
        options: of the frozen set.
    """

    def __init__(
        self,
        *,
        change: Callable[[Scene], Scene],
        tissue: list[np.ndarray],
        bare: bool,
        **options,
    ) -> None:
        super().__init__(**options)
        self.change, self.tissue, self.bare = change, tissue, bare

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Draw a scene, change it, expose it."""
        drawn, cnr = frozen_scene(self.subset, index)
        scene, light = self.change(drawn.scene), render_at
        if self.tissue:
            light = self._before_tissue(index)
            cnr = contrast_to_noise(scene, light)[0, drawn.labelled].numpy()
        if self.bare:
            presence = torch.zeros_like(scene.pipettes.presence)
            scene = replace(scene, pipettes=replace(scene.pipettes, presence=presence))
        axis = torch.arange(SIZE, dtype=torch.float32)[None]
        image = expose(scene, light(scene, axis, axis), torch.Generator().manual_seed(index))[0]
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


def read_tissue(folder: Path) -> list[np.ndarray]:
    """Return the images of a folder as expected brightness, 1 on average."""
    paths = sorted(folder.glob('*.png'))
    if not paths:
        raise FileNotFoundError(f'{folder}: no PNG; give the folder of the background images')
    found = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim != 2 or min(image.shape) < SIZE:
            raise ValueError(f'{path}: needs to be a grey image of {SIZE} pixels a side or more')
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), GRAIN_PX)
        found.append(smooth / smooth.mean())
    return found


def main(run: Path, folder: Path, scenes: int) -> None:
    """Measure, then write results, table and picture."""
    tune_cpu()
    config = Config.fromfile(run / 'config.py')
    model = build_detector(config.model)
    load_weights(run / WEIGHTS, model)
    model.to(memory_format=torch.channels_last).eval()
    tissue = read_tissue(folder)
    rows = {}
    for name, change in (CHANGES | {REAL: CHANGES['as drawn']}).items():
        options = dict(
            type=Surrounded,
            change=change,
            tissue=tissue if name == REAL else [],
            subset=SUBSET,
            pipeline=config.predict_pipeline,
            count=scenes,
        )
        answers, none = (predictions(model, dict(options, bare=bare)) for bare in (False, True))
        rows[name] = measure(answers, none)
        print(name, rows[name], flush=True)
    _draw(options, answers, run / 'surroundings.jpg')
    found = dict(
        run=name_of(run),
        scenes=scenes,
        backgrounds=len(tissue),
        threshold=model.score_threshold,
        device=device_name('cpu'),
        date=datetime.date.today().isoformat(),
        rows=rows,
    )
    (HERE / 'results' / 'surroundings.json').write_text(json.dumps(found, indent=1) + '\n')
    rewrite(HERE / 'README.md', 'surroundings', to_markdown(found))


def measure(answers: list, bare: list) -> dict:
    """Return what is found, and what is found where there is nothing to find."""
    records = [to_record(sample.to_dict()) for sample in answers]
    everything, seen = summarise(records), by_cnr(records)['>=1']
    return dict(
        tips=sum(int((record.cnr >= 1).sum()) for record in records),
        seen={key: seen[key] for key in KEYS},
        all={key: everything[key] for key in (*KEYS, *CHOICE)},
        interval=bootstrap(records, 'tip/acc@10um'),
        ghosts=summarise([to_record(sample.to_dict()) for sample in bare])['open/ghosts_per_image'],
    )


def _draw(options: dict, answers: list, path: Path) -> None:
    dataset = DATASETS.build(dict(options, bare=False))
    chosen = np.linspace(0, len(answers) - 1, SHOWN).round().astype(int)
    records = {int(i): to_record(answers[i].to_dict()) for i in chosen}
    tiles = [draw_record(dataset[i], record, str(i), zoom=1) for i, record in records.items()]
    write_picture(path, contact_sheet(tiles, columns=4))


def to_markdown(found: dict) -> str:
    """Return the table."""
    lines = [
        f'{found["run"]}, {found["scenes"]} scenes of `{SUBSET}`, {found["backgrounds"]} real '
        f'backgrounds; answers from a score of {found["threshold"]:g}; {found["device"]}; '
        f'{found["date"]}.',
        '',
        '| surroundings | tips of CNR >= 1 | within 3 um, % | 5 | 10 | median, um '
        '| all tips: 10 (95 %) | found within 5 um, % | of the answers right, % '
        '| ghosts a frame without pipettes |',
        '|---' * 10 + '|',
    ]
    for name, row in found['rows'].items():
        seen, low_high = row['seen'], '{:.1f} to {:.1f}'.format(*row['interval'])
        shares = ' | '.join(f'{seen[key]:.1f}' for key in KEYS[:3])
        choice = ' | '.join(f'{row["all"][key]:.1f}' for key in CHOICE)
        lines.append(
            f'| {name} | {row["tips"]} | {shares} | {seen["tip/median_um"]:.2f} '
            f'| {row["all"]["tip/acc@10um"]:.1f} ({low_high}) | {choice} | {row["ghosts"]:.3f} |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('run', type=Path, help='run folder, trained and calibrated')
    parser.add_argument('--tissue', type=Path, required=True, help='folder of real backgrounds')
    parser.add_argument('--scenes', type=int, default=500, help='of the frozen set, from the first')
    args = parser.parse_args()
    main(args.run, args.tissue, args.scenes)
