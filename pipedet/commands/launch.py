"""Run other commands in processes of their own: where one breaks, the rest go on."""

import hashlib
import json
import subprocess  # nosec B404
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config


def launch(*arguments: str | Path, log: Path) -> None:
    """Run `pipedet ARGUMENTS...` to its end, its output appended to a file.

    Raises:
        RuntimeError: the command failed; with its last line, and where the others are.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, '-X', 'utf8', '-m', 'pipedet', *map(str, arguments)]
    with (
        log.open('a', encoding='utf-8') as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as child,  # nosec B603
    ):
        try:
            code = child.wait()
        except KeyboardInterrupt:  # the child was told too: let it save what it has
            child.wait()
            raise
    if code:
        lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        raise RuntimeError(f'{lines[-1] if lines else "no output"} (exit {code}, see {log})')


def agree_on(settings: dict[str, Any], path: Path) -> None:
    """Keep the settings in a file; refuse to go on from runs that were made with others."""
    before = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else settings
    changed = [key for key in settings if before.get(key) != settings[key]]
    if changed:
        raise ValueError(
            f'{path} says that what is there was made with another {" and ".join(changed)}: '
            'choose another folder'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1), encoding='utf-8')


def digest_of(config: Config) -> str:
    """Return what tells one config from another, wherever its runs are."""
    content = json.dumps(config.to_dict() | dict(work_dir=None), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()
