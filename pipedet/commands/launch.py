"""Run other commands in processes of their own: where one breaks, the rest go on."""

import subprocess
import sys
from pathlib import Path


def launch(*arguments: str | Path, log: Path) -> None:
    """Run `pipedet ARGUMENTS...` to its end, its output appended to a file.

    Raises:
        RuntimeError: the command failed; with its last line, and where the others are.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a', encoding='utf-8') as file:
        done = subprocess.run(
            [sys.executable, '-m', 'pipedet', *map(str, arguments)],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        raise RuntimeError(
            f'{lines[-1] if lines else "no output"} (exit {done.returncode}, see {log})'
        )
