"""Turn finished runs into the tables of benchmarks/README.md.

    python benchmarks/accuracy.py work_dirs/quickstart work_dirs/ours

Reads what `pipedet train` and `pipedet test` left in each run folder, copies the figures to
results/accuracy_NAME.json, and rewrites the tables from all such files.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tables import rewrite

HERE = Path(__file__).parent
RESULTS = HERE / 'results'
SHOWN = ('quickstart', 'ours')  # the others take quickstart's parts in turn
SHORT = (
    'within 3 um, %', '5 um, %', '10 um, %',
    'mean error, um', 'mean of finds, um', 'median, um',
)  # fmt: skip
PAPER = [  # arXiv 2504.01044, Table II: 3, 5, 10 um, mean error; real images, not public
    ('VGG16 (paper, real)', 31.72, 49.65, 69.65, 11.70),
    ('ResNet18 (paper, real)', 17.24, 42.75, 68.96, 13.83),
    ('ResNet50 (paper, real)', 55.86, 73.79, 81.37, 18.22),
    ('ViT (paper, real)', 35.86, 62.06, 84.13, 19.34),
    ('Ours (paper, real)', 73.79, 89.65, 98.62, 2.52),
]
KNOWN = (
    'tip/acc@3{u}', 'tip/acc@5{u}', 'tip/acc@10{u}',
    'tip/error_{u}', 'tip/error@10{u}', 'tip/median_{u}',
)  # fmt: skip
OPEN = ('open/precision@5{u}', 'open/recall@5{u}', 'open/f1@5{u}', 'open/count_acc')
HEAD = '| model | images | tips | {t} |\n|---|---|---|{d}|'


def collect(folder: Path) -> None:
    """Copy a run's figures, without its sessions, to results/."""
    tests = {
        path.parent.name: json.loads(path.read_text(encoding='utf-8'))
        for path in folder.glob('test*/metrics.json')
    }
    for test in tests.values():
        del test['sessions']
    train = json.loads((folder / 'train.json').read_text(encoding='utf-8'))
    del train['command']  # names paths of the machine it ran on
    out = RESULTS / f'accuracy_{folder.resolve().name}.json'
    RESULTS.mkdir(exist_ok=True)
    out.write_text(json.dumps(dict(train=train, tests=tests), indent=1) + '\n', encoding='utf-8')


def tables() -> str:
    """Return the tables of every results/accuracy_*.json, those of ablations folded away."""
    results = {
        path.stem.removeprefix('accuracy_'): json.loads(path.read_text(encoding='utf-8'))
        for path in sorted(RESULTS.glob('accuracy_*.json'))
    }
    paper = [f'| {n} | | | {a} | {b} | {c} | {e} | | |' for n, a, b, c, e in PAPER]
    shown = {name: result for name, result in results.items() if name in SHOWN}
    others = {name: result for name, result in results.items() if name not in SHOWN}
    return '\n'.join(
        [
            'Runs:\n', *map(_about, results, results.values()),
            '', *_three_tables(shown, paper),
            '\n<details><summary>The same of every other run</summary>',
            '', *_three_tables(others), '\n</details>',
        ]
    )  # fmt: skip


def _about(name: str, result: dict) -> str:
    """Return what a run was, in a line."""
    context, train = result['tests']['test']['context'], result['train']
    steps = ', '.join(f'{s["stage"]} {s["steps"]} steps' for s in train['stages'])
    budget = f', budget {train["budget_s"]:.0f} s' if train['budget_s'] else ''
    return (
        f'- **{name}**: {steps} of {train["batch_size"]} images, {train["train_s"]:.0f} s'
        f'{budget}; {train["device"]}; '
        f'seed {context["seed"]}; {context["date"]}; {context["versions"]}'
    )


def _three_tables(results: dict[str, dict], paper: Sequence[str] = ()) -> list[str]:
    """Return the lines of known count, known count by CNR, and open count of some runs."""
    known, bands, free = [], [], []
    for name, result in results.items():
        for test in result['tests'].values():
            for unit, subsets in test['subsets'].items():
                for subset, figures in subsets.items():
                    label = f'{name}, {subset} ({unit})'
                    known.append(_row(label, figures['summary'], KNOWN, unit))
                    free.append(
                        _row(label, figures['summary'], (*OPEN, 'open/ghosts_per_image'), unit)
                    )
                    bands += [
                        _row(f'{label}, CNR {band}', own, KNOWN, unit)
                        for band, own in figures['by_cnr'].items()
                        if own['tips']
                    ]
    columns = 'within 3, % | 5, % | 10, % | mean error | of those within 10 | median'
    counts = 'precision@5, % | recall@5, % | F1@5, % | count, % | ghosts/image'
    return [
        '**Known count**\n', _head(columns), *known, *paper,
        '\n**Known count, by contrast-to-noise ratio of the tip**\n', _head(columns), *bands,
        '\n**Open count**\n', _head(counts), *free,
    ]  # fmt: skip


def expectation() -> str:
    """Return what the main README says to expect of the quickstart."""
    result = json.loads((RESULTS / 'accuracy_quickstart.json').read_text(encoding='utf-8'))
    subsets = result['tests']['test']['subsets']['um']
    rows = [('`clear`', subsets['clear']['summary'])]
    rows += [('`standard`, all tips', subsets['standard']['summary'])]
    rows += [('`standard`, tips of CNR >= 1', subsets['standard']['by_cnr']['>=1'])]
    rows += [('`starved`', subsets['starved']['summary'])]
    lines = ['| set | ' + ' | '.join(SHORT) + ' |', '|---|' + '---|' * len(SHORT)]
    for label, summary in rows:
        cells = (f'{summary[key.format(u="um")]:.1f}' for key in KNOWN)
        lines.append(f'| {label} | ' + ' | '.join(cells) + ' |')
    return '\n'.join([*lines, '', f'({result["train"]["device"]}; known count, see below)'])


def _head(titles: str) -> str:
    return HEAD.format(t=titles, d='|'.join(['---'] * (titles.count('|') + 1)))


def _row(label: str, summary: dict, keys: tuple[str, ...], unit: str) -> str:
    cells = [summary.get('images', ''), summary.get('tips', 0)]
    cells += [summary.get(key.format(u=unit)) for key in keys]
    shown = ['-' if c is None else f'{c:.2f}' if isinstance(c, float) else str(c) for c in cells]
    return f'| {label} | ' + ' | '.join(shown) + ' |'


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='*', help='run folders')
    for run in parser.parse_args().runs:
        collect(run)
    rewrite(HERE / 'README.md', 'accuracy', tables())
    rewrite(HERE.parent / 'README.md', 'accuracy', expectation())
