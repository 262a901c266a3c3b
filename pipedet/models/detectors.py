"""Detectors of the paper and of the quickstart, assembled from parts."""

from collections.abc import Callable

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pipedet.models.answers import AnswerJudge
from pipedet.models.losses import quality_focal
from pipedet.models.novelty import Novelty
from pipedet.models.symmetry import eight_views, mean_of_views
from pipedet.models.tip_detector import TipDetector, on_top_of
from pipedet.models.tip_head import Unread
from pipedet.registry import MODELS
from pipedet.structures import TipDataSample

# So much more weighs the focal loss of labels than the quality focal loss of a teacher (1.04 and
# 0.26 a tip at the end of a quarter of an hour).
_LIKE_LABELS = 4.0


@MODELS.register_module()
class HeatmapDetector(TipDetector):
    """Encoder and heatmap, its peaks the tips: any number of them up to `max_tips`.

    Args:
        enhancer: see `TipDetector`.
        encoder: config of an encoder.
        coarse: config of a heatmap head; the encoder says its channels and stride.
        max_tips: the most tips in one image.
        average_views: predict from the mean heatmap of the image's eight turns and mirrors, at
            eight times the cost; the input must be square.
        score_threshold: see `TipDetector`.
    """

    draws_maps = True

    def __init__(
        self,
        *,
        enhancer: dict | None,
        encoder: dict,
        coarse: dict,
        max_tips: int,
        average_views: bool,
        score_threshold: float,
    ) -> None:
        super().__init__(enhancer=enhancer, score_threshold=score_threshold)
        self.encoder = MODELS.build(encoder)
        self.coarse = on_top_of(self.encoder, coarse)
        self.max_tips = max_tips
        self.average_views = average_views

    def _final(self, enhanced: Tensor) -> Tensor:
        if not self.average_views:
            return self._forward(enhanced)
        # Logits, not probabilities: one blind view should not veto the others.
        return mean_of_views(self._forward(eight_views(enhanced)))

    def _forward(self, inputs: Tensor) -> Tensor:
        return self._heatmap(inputs)

    def _heatmap(self, inputs: Tensor) -> Tensor:
        return self.coarse(self.encoder(inputs))

    def _losses(
        self, outputs: Tensor, tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        return self.coarse.loss(outputs, tips)

    def _candidates(self, outputs: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self.coarse.read(outputs, self.max_tips)

    def _annotate(self, data_samples: list[TipDataSample], outputs: Tensor, scores: Tensor) -> None:
        _note_overlap(data_samples, self.coarse, outputs)


@MODELS.register_module()
class CoarseToFineDetector(TipDetector):
    """The paper's assembly (eq. 2): enhancer, encoder, coarse heatmap, fine coordinates.

    Args:
        enhancer: see `TipDetector`.
        encoder: config of an encoder.
        coarse: config of a heatmap head; the encoder says its channels and stride.
        fine: config of a head that reads the heatmap into slots.
        score_threshold: see `TipDetector`.
    """

    def __init__(
        self,
        *,
        enhancer: dict | None,
        encoder: dict,
        coarse: dict,
        fine: dict,
        score_threshold: float,
    ) -> None:
        super().__init__(enhancer=enhancer, score_threshold=score_threshold)
        self.encoder = MODELS.build(encoder)
        self.coarse = on_top_of(self.encoder, coarse)
        self.fine = MODELS.build(fine)

    def _forward(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        logits = self._heatmap(inputs)
        return logits, self.fine(logits.sigmoid())

    def _heatmap(self, inputs: Tensor) -> Tensor:
        return self.coarse(self.encoder(inputs))

    def _losses(
        self, outputs: tuple, tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """L = L_dice + alpha L_hungarian (eq. 7), and the presence loss beside them."""
        logits, slots = outputs
        losses = self.coarse.loss(logits, tips)
        # While the fine head is frozen, still random, its losses would only mislead the encoder.
        if 'fine' not in self._frozen:
            losses |= self.fine.loss(slots, tips, size)
        return losses

    def _candidates(self, outputs: tuple, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self.fine.read(outputs[1], size)

    def _annotate(self, data_samples: list[TipDataSample], outputs: tuple, scores: Tensor) -> None:
        _note_overlap(data_samples, self.coarse, outputs[0])


@MODELS.register_module()
class DirectDetector(TipDetector):
    """A head that reads the image itself: the baselines of the paper's Table II.

    Args:
        enhancer: see `TipDetector`.
        fine: config of a head.
        score_threshold: see `TipDetector`.
    """

    def __init__(self, *, enhancer: dict | None, fine: dict, score_threshold: float) -> None:
        super().__init__(enhancer=enhancer, score_threshold=score_threshold)
        self.fine = MODELS.build(fine)

    def _forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.fine(inputs)

    def _losses(
        self, outputs: tuple, tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        return self.fine.loss(outputs, tips, size)

    def _candidates(self, outputs: tuple, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self.fine.read(outputs, size)


def _note_overlap(data_samples: list[TipDataSample], head: nn.Module, logits: Tensor) -> None:
    tips = [sample.gt_tips for sample in data_samples]
    if not any(len(own) for own in tips):
        return
    for sample, overlap in zip(data_samples, head.overlap(logits, tips).tolist(), strict=True):
        if len(sample.gt_tips):  # nothing overlaps with nothing
            sample.set_metainfo(dict(heatmap_iou=overlap))


@MODELS.register_module()
class TipNet(TipDetector):
    """Encoder and `TipHead`: any number of tips, each with its covariance, direction and height.

    Args:
        enhancer: see `TipDetector`.
        encoder: config of an encoder.
        head: config of a `TipHead`; the encoder says its channels and stride.
        max_tips: the most tips in one image.
        score_threshold: see `TipDetector`.
    """

    judges_answers = True

    def __init__(
        self,
        *,
        enhancer: dict | None,
        encoder: dict,
        head: dict,
        max_tips: int,
        score_threshold: float,
    ) -> None:
        super().__init__(enhancer=enhancer, score_threshold=score_threshold)
        self.encoder = MODELS.build(encoder)
        self.head = on_top_of(self.encoder, head)
        self.novelty = Novelty(self.encoder.channels)
        self.judge = AnswerJudge(2 * self.encoder.channels)
        self.max_tips = max_tips
        self._lesson: Callable[[Tensor], Tensor] | None = None
        self._taught_share = 0.0

    def learn_from(self, teacher: 'TipNet', share: float) -> None:
        """Learn a share of the heatmap from another network from now on, the rest from labels.

        Labels ask for tips that nobody can see; a trained network asks for those it sees itself,
        and that is less to learn by heart (Hinton et al. 2015, arXiv 1503.02531). It looks at what
        comes in, before an enhancer.

        Args:
            teacher: trained, on the device of this one; not a part of it.
            share: of the heatmap's loss, between 0 and 1.

        Raises:
            ValueError: the share is none, or the teacher's heatmap has cells of another size.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a teacher's share is between 0 and 1, not {share}")
        if teacher.head.stride != self.head.stride:
            raise ValueError(
                f"the teacher's heatmap has a cell every {teacher.head.stride} px, that of the "
                f'network to be taught every {self.head.stride}: choose another teacher'
            )
        teacher.eval()

        @torch.no_grad()
        def lesson(inputs: Tensor) -> Tensor:
            return teacher.head.heat(teacher.encoder(inputs)).sigmoid()

        # A function and not a module: it is neither trained nor saved with this one.
        self._lesson, self._taught_share = lesson, share

    def _final(self, enhanced: Tensor) -> tuple[Unread, Tensor]:
        features = self.encoder(enhanced)
        return Unread(features), self.novelty.summary(features)

    def _forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(inputs)
        return self.head(features), self.novelty.summary(features.detach())

    def _losses(
        self, outputs: tuple, tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        return self.head.loss(outputs[0], tips)

    def _judge(
        self, inputs: Tensor, data_samples: list[TipDataSample]
    ) -> tuple[tuple, dict[str, Tensor]]:
        outputs, losses = super()._judge(inputs, data_samples)
        if self.training and self._lesson is not None:
            tips = sum(len(sample.gt_tips) for sample in data_samples)
            off = quality_focal(outputs[0][:, :1], self._lesson(inputs)) / max(1, tips)
            losses['loss_heatmap'] = (1 - self._taught_share) * losses['loss_heatmap']
            losses['loss_taught'] = self._taught_share * _LIKE_LABELS * off
        return outputs, losses

    def _candidates(self, outputs: tuple, size: tuple[int, int]) -> tuple:
        return self.head.read(outputs[0], self.max_tips)

    def _remarks(self, outputs: tuple, scores: Tensor) -> dict[str, Tensor]:
        confidence = self._confidence(scores, outputs[1])
        return dict(novelty=self.novelty(outputs[1]), confidence=confidence)

    def _confidence(self, scores: Tensor, summary: Tensor) -> Tensor:
        """Return the chance (B,) that what is answered of scores (B, K) are the tips."""
        answered = self._best(scores)
        stood_by = (answered >= self.score_threshold) & (answered > 0)
        chance = self.judge(scores, stood_by, summary)
        if self.most is not None and self.most <= scores.shape[1]:
            return chance
        return chance * ~stood_by.all(dim=1)  # with no slot left nobody knows what else there is
