"""How far from physics a localiser is: its errors over the Cramer-Rao bound of each tip.

    python benchmarks/limits.py work_dirs/quickstart

Reads RUN/test/records.json, the test of a run on the frozen sets, and computes the bound of every
labelled tip in `standard`. Writes results/limits_NAME.json and pictures/limits_NAME.png.
"""

import argparse
import datetime
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from runs import name_of

from pipedet.evaluation import known_count, read_records
from pipedet.synthesis.frozen import frozen_scene
from pipedet.synthesis.limits import cramer_rao

HERE = Path(__file__).parent
FOUND_UM = 10.0  # of the tips that were found: what is beyond is another thing than noise
EDGES = {
    'photons a pixel': (10, 20, 40, 80, 151),
    'tips in the image': (1, 2, 3, 4, 9),
    'distance from focus, um': (0, 2, 4, 8, 100),
}


def main(run: Path) -> None:
    """Measure, write and plot one run."""
    records = [r for r in read_records(run / 'test' / 'records.json') if r.subset == 'standard']
    rows = [row for index, record in enumerate(records) for row in _tips(index, record)]
    name = name_of(run)
    result = dict(
        run=name,
        set='standard',
        scenes=len(records),
        date=datetime.date.today().isoformat(),
        tips=len(rows),
        bound_um=dict(zip(('p10', 'median', 'p90'), _percentiles(rows, 'bound'), strict=True)),
        found=sum(row['error'] < FOUND_UM for row in rows),
        ratio_median=_median_ratio(rows),
        by={name: _by(rows, name) for name in EDGES},
    )
    (HERE / 'results' / f'limits_{name}.json').write_text(
        json.dumps(result, indent=1) + '\n', encoding='utf-8'
    )
    _plot(rows, result['by'], HERE / 'pictures' / f'limits_{name}.png', name)
    print(json.dumps(result, indent=1))


def _tips(index: int, record) -> list[dict]:
    """Return error, bound and circumstances of each tip of one frozen scene."""
    drawn, cnr = frozen_scene('standard', index)
    if record.source != f'synthetic/standard/{index:06d}':
        raise ValueError(f'record {index} is of {record.source}: test on the frozen sets again')
    scene, labelled = drawn.scene, drawn.labelled
    bound = cramer_rao(scene)[0, labelled].numpy()
    heights = scene.pipettes.z_um[0, labelled].abs().numpy()
    return [
        dict(
            error=float(error),
            bound=float(limit),
            cnr=float(own_cnr),
            **{
                'photons a pixel': float(scene.sensor.photons[0]),
                'tips in the image': len(bound),
                'distance from focus, um': float(height),
            },
        )
        for error, limit, own_cnr, height in zip(
            known_count(record), bound, cnr, heights, strict=True
        )
    ]


def _percentiles(rows: list[dict], key: str) -> list[float]:
    return np.percentile([row[key] for row in rows], (10, 50, 90)).tolist()


def _median_ratio(rows: list[dict]) -> float | None:
    ratios = [row['error'] / row['bound'] for row in rows if row['error'] < FOUND_UM]
    return float(np.median(ratios)) if ratios else None


def _by(rows: list[dict], name: str) -> list[dict]:
    edges = EDGES[name]
    bands = []
    for low, high in zip(edges, edges[1:], strict=False):
        own = [row for row in rows if low <= row[name] < high]
        if own:
            bands.append(
                dict(
                    low=low,
                    high=high,
                    tips=len(own),
                    found=sum(row['error'] < FOUND_UM for row in own),
                    bound_median=float(np.median([row['bound'] for row in own])),
                    ratio_median=_median_ratio(own),
                )
            )
    return bands


def _plot(rows: list[dict], bands: dict[str, list[dict]], out: Path, name: str) -> None:
    """Error against bound, one dot a tip; a perfect estimator's scatter about the line.

    Beside it the median of error over bound in bands of what makes an image hard.
    """
    figure, (axes, *others) = plt.subplots(
        1, 4, figsize=(12, 4.2), layout='constrained', width_ratios=(2.6, 1, 1, 1)
    )
    for other, (condition, own) in zip(others, bands.items(), strict=True):
        labels = [f'{band["low"]} to {band["high"]}' for band in own]
        bars = other.bar(labels, [band['ratio_median'] or 0 for band in own], color='steelblue')
        other.bar_label(bars, [f'{band["found"]} of\n{band["tips"]}' for band in own], fontsize=7)
        other.axhline(1, color='black', linewidth=0.8)
        other.tick_params(axis='x', labelrotation=45)
        other.set(xlabel=condition, ylim=(0, 8))
    others[0].set_ylabel('median of error over bound, of tips found')
    bound, error = (np.array([row[key] for row in rows]) for key in ('bound', 'error'))
    cnr = np.array([row['cnr'] for row in rows])
    dots = axes.scatter(bound, error.clip(0.02), c=np.log10(cnr.clip(0.1, 10)), s=5, cmap='viridis')
    ends = np.array([bound.min(), bound.max()])
    axes.plot(ends, ends, color='black', linewidth=0.8)
    axes.set(
        xscale='log',
        yscale='log',
        xlabel='Cramer-Rao bound, um rms',
        ylabel='error, um',
        title=f'{name} on standard',
    )
    figure.colorbar(dots, ax=axes, label='log10 of contrast-to-noise')
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, dpi=110)
    plt.close(figure)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('run', type=Path, help='run folder')
    main(parser.parse_args().run)
