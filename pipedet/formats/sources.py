"""The frames of a file, or of all files of a folder: in what order, and of which channel."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipedet.formats.channels import frames_of_channel, read_channels
from pipedet.formats.images import IMAGE_SUFFIXES, ImageReadError, count_frames, read_image


@dataclass
class Frame:
    """One frame of a file.

    Attributes:
        number: counted from 0.
        channel: that it shows, where that is known.
        within: the one of its channels to pick; None: it has one, or all count.
        fault: why the file's frames cannot be told.
    """

    path: Path
    number: int
    channel: int | None = None
    within: int | None = None
    fault: ImageReadError | None = None

    def read(self) -> np.ndarray:
        """Return it, (H, W)."""
        if self.fault is not None:
            raise self.fault
        return read_image(self.path, self.number, self.within)


def find_frames(paths: list[Path], channel: int | None) -> Iterator[Frame]:
    """Yield every frame of every file, or those that show a channel."""
    for path in paths:
        try:
            if channel is None:
                channels = read_channels(path) or [None] * count_frames(path)
                found = [Frame(path, number, own) for number, own in enumerate(channels)]
            else:
                numbers, within = frames_of_channel(path, channel)
                found = [Frame(path, number, channel, within) for number in numbers]
        except ImageReadError as fault:
            found = [Frame(path, 0, fault=fault)]
        yield from found


def find_images(source: Path) -> list[Path]:
    """Return the file itself, or the images of a folder in the order of their names."""
    if source.is_dir():
        found = sorted(
            path
            for path in source.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')
        )
        if not found:
            raise FileNotFoundError(
                f'no image in {source} (looked for {", ".join(IMAGE_SUFFIXES)}, not in folders in '
                'it): give the folder of the images, export other formats as TIFF'
            )
        return found
    if not source.exists():
        raise FileNotFoundError(f'no such file or folder: {source}')
    return [source]
