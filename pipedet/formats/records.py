"""What an annotation file says about one image."""

from dataclasses import dataclass, field

import numpy as np

from pipedet.formats.scale import PixelSize


@dataclass(eq=False, kw_only=True)
class ImageRecord:
    """One image and its tips.

    `tips` are (N, 2) float32 pixels (x, y), centres at integers; none means an image without tips.
    `frame` None means that the file names no page, which is enough for single images only.
    """

    file_name: str  # relative to the image folder, with forward slashes
    frame: int | None = None
    tips: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    session: str | None = None
    pixel_size_um: PixelSize | None = None
    z_um: float | None = None
    width: int | None = None
    height: int | None = None
    where: str = ''  # 'file:row' or 'file: images[i]', for error messages
