"""One detector trained from several seeds: the mean of what its copies draw."""

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pipedet.models.tip_detector import TipDetector, build_detector
from pipedet.registry import MODELS
from pipedet.structures import TipDataSample


@MODELS.register_module()
class SeedEnsemble(TipDetector):
    """Several trainings of one detector that draws maps; `pipedet ensemble` puts it together.

    Its maps are the mean of theirs, before anything is read from them: where one copy errs alone,
    the others outvote it (Lakshminarayanan et al. 2017). It is not trained itself.

    Args:
        member: config of the detector, without an enhancer; each copy predicts as it does alone,
            from the mean of eight views if that is how it was made.
        count: of copies.

    Raises:
        ValueError: the outputs of the detector are no maps, or an enhancer stands before it.
    """

    def __init__(self, *, member: dict, count: int) -> None:
        if member.get('enhancer') is not None:
            raise ValueError('an ensemble averages detectors of raw images, without an enhancer')
        super().__init__(enhancer=None, score_threshold=member['score_threshold'])
        self.members = nn.ModuleList(build_detector(member) for _ in range(count))
        if not self.members[0].draws_maps:
            raise ValueError(
                f'{type(self.members[0]).__name__} does more than draw maps: only the maps of a '
                'HeatmapDetector or a CenterNet can be averaged'
            )

    def _final(self, enhanced: Tensor) -> Tensor:
        return torch.stack([member._final(enhanced) for member in self.members]).mean(dim=0)

    def _forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([member._forward(inputs) for member in self.members]).mean(dim=0)

    def _losses(
        self, outputs: Tensor, tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        return self.members[0]._losses(outputs, tips, size)

    def _candidates(self, outputs: Tensor, size: tuple[int, int]) -> tuple:
        return self.members[0]._candidates(outputs, size)

    def _annotate(self, data_samples: list[TipDataSample], outputs: Tensor, scores: Tensor) -> None:
        self.members[0]._annotate(data_samples, outputs, scores)
