"""What each model that ships makes of transmitted light, computed and real, beside each other.

    python benchmarks/transmitted.py

Reads what zoo.py left in results/ and writes the table between the marks in README.md.
"""

import json
from pathlib import Path

from tables import rewrite

from pipedet import zoo

HERE = Path(__file__).parent
SETS = {
    'diffraction': '`diffraction`, scenes of a bath',
    'slice': '`slice`, scenes under DIC',
    'exvivo_zstack': 'real bath',
    'exvivo_zstack, |z| <= 4 um': 'real bath, near the focus',
}


def to_markdown(models: dict[str, dict]) -> str:
    """Return the table of some models' sets by name."""
    lines = [
        '| set | model | told how many: within 3 um, % | 5 (95 %) | 10 | median, um | 90 % ellipse '
        'holds | height off by, um (answering 0) | untold: F1 at 5 um | ghosts a frame |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for kind, label in SETS.items():
        lines += [_row(label, name, sets[kind]) for name, sets in models.items()]
    return '\n'.join(lines)


def _row(label: str, name: str, of: dict) -> str:
    low, high = of['interval@5um']
    return (
        f'| {label} | {name} | {of["tip/acc@3um"]:.1f} | '
        f'{of["tip/acc@5um"]:.1f} ({low:.1f} to {high:.1f}) | {of["tip/acc@10um"]:.1f} | '
        f'{of["tip/median_um"]:.2f} | {of["coverage"]:.2f} | {of["height_error_um"]:.1f} '
        f'({of["height_error_of_zero_um"]:.1f}) | {of["open/f1@5um"]:.1f} | '
        f'{of["open/ghosts_per_image"]:.3f} |'
    )


if __name__ == '__main__':
    measured = {
        name: json.loads((HERE / 'results' / f'zoo_{name}.json').read_text(encoding='utf-8'))[
            'sets'
        ]
        for name in sorted(zoo.names(), reverse=True)
    }
    table = to_markdown(measured)
    rewrite(HERE / 'README.md', 'transmitted', table)
    print(table)
