"""CenterNet on images of any size: objects of several kinds, in windows and in eight views."""

from collections.abc import Callable

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from pipedet.models.symmetry import mean_of_vector_views, mean_of_views, square_views
from pipedet.models.tip_detector import TipDetector, on_top_of
from pipedet.models.windows import windowed
from pipedet.registry import MODELS


@MODELS.register_module()
class CenterNet(TipDetector):
    """Encoder and `CenterHead`: objects as peaks, each with its kind (MidasMap).

    Args:
        enhancer: see `TipDetector`.
        encoder: config of an encoder.
        head: config of a `CenterHead`; the encoder says its channels and stride.
        max_tips: the most objects in one image, of all kinds together.
        window: side of what is looked at in one piece, input pixels; larger images go through in
            several.
        overlap: of neighbouring windows, input pixels.
        average_views: predict from the mean of each window's eight turns and mirrors, at eight
            times the cost.
        score_threshold: see `TipDetector`.

    Raises:
        ValueError: windows do not overlap as they should, or end amid a cell.
    """

    draws_maps = True

    def __init__(
        self,
        *,
        enhancer: dict | None,
        encoder: dict,
        head: dict,
        max_tips: int,
        window: int,
        overlap: int,
        average_views: bool,
        score_threshold: float,
    ) -> None:
        super().__init__(enhancer=enhancer, score_threshold=score_threshold)
        self.encoder = MODELS.build(encoder)
        self.head = on_top_of(self.encoder, head)
        if not 0 <= overlap < window or window % 32 or overlap % 32:
            raise ValueError(
                f'window {window} and overlap {overlap} must be multiples of 32, the largest '
                'stride of a backbone, and the overlap the smaller one'
            )
        self.max_tips, self.average_views = max_tips, average_views
        self.window, self.overlap = window, overlap

    def _forward(self, inputs: Tensor) -> Tensor:
        return self._in_windows(self._maps, inputs)

    def _final(self, enhanced: Tensor) -> Tensor:
        return self._in_windows(self._mean_maps if self.average_views else self._maps, enhanced)

    def _in_windows(self, network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        return windowed(
            network, inputs, window=self.window, overlap=self.overlap, stride=self.encoder.stride
        )

    def _maps(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(inputs))

    def _mean_maps(self, inputs: Tensor) -> Tensor:
        """Return the mean maps of the eight views; offsets turn with them."""
        height, width = inputs.shape[-2:]
        maps = self._maps(square_views(inputs))
        heat, offset = maps[:, : self.head.kinds], maps[:, self.head.kinds :]
        mean = torch.cat([mean_of_views(heat), mean_of_vector_views(offset)], dim=1)
        return mean[..., : height // self.encoder.stride, : width // self.encoder.stride]

    def _losses(
        self, outputs: Tensor, tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        return self.head.loss(outputs, tips)

    def _candidates(self, outputs: Tensor, size: tuple[int, int]) -> tuple:
        return self.head.read(outputs, self.max_tips)
