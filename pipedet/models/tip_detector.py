"""The base of every detector: from a batch of images to tips, and to losses.

Losses are made from the outputs of `_forward`; predictions from those of `_final`, which says the
same of an image, if by another way: as a mean over its views, or of the places asked for alone.
"""

from abc import abstractmethod
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pipedet.models.parts import StagedModel
from pipedet.models.preprocessor import TipPreprocessor
from pipedet.registry import MODELS
from pipedet.structures import TipDataSample, split_unread


class TipDetector(StagedModel):
    """What every detector shares: enhancement, modes, predictions in the original image's pixels.

    Args:
        enhancer: config of an `Enhancement`, or None; stages do not train it.
        score_threshold: the operating point, the score from which a candidate counts as a tip.

    Attributes:
        draws_maps: whether its outputs are one tensor of maps, which may be averaged over copies.
        judges_answers: whether it says with what `confidence` a whole answer is right.
        most: how many tips an image can hold, None where nobody knows: the others are dropped.
    """

    draws_maps = False
    judges_answers = False

    def __init__(self, *, enhancer: dict | None, score_threshold: float) -> None:
        super().__init__(data_preprocessor=TipPreprocessor())
        self.enhancer = None if enhancer is None else MODELS.build(enhancer)
        self.score_threshold = score_threshold
        self.most: int | None = None

    @abstractmethod
    def _forward(self, inputs: Tensor) -> tuple | Tensor:
        """Run the parts on enhanced (B, 1, H, W)."""

    def _heatmap(self, inputs: Tensor) -> Tensor:
        """Return the heatmap's logits of raw or enhanced (B, 1, H, W)."""
        raise ValueError("crop='proposed' needs a heatmap, which this detector does not draw")

    @abstractmethod
    def _losses(
        self, outputs: tuple | Tensor, tips: list[InstanceData], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Return named losses of `_forward`'s outputs; `size` is the (H, W) of the inputs."""

    @abstractmethod
    def _candidates(self, outputs: tuple | Tensor, size: tuple[int, int]) -> tuple:
        """Return points (B, K, 2) in input pixels and scores (B, K); 0 is no candidate.

        A third value may hold what else is predicted of each, (B, K, ...) by name.
        """

    def loss(self, inputs: Tensor, data_samples: list[TipDataSample]) -> dict[str, Tensor]:
        """Return named losses."""
        return self._judge(inputs, data_samples)[1]

    def locate(self, inputs: Tensor, shape: tuple[int, int]) -> dict[str, Tensor]:
        """Return `points` (B, K, 2), `scores` (B, K) and what else is known, by name.

        All of it is in input pixels, of normalised images (B, 1, H, W) that need no enhancement;
        what is known of whole images is (B,).

        Args:
            inputs: the images.
            shape: (H, W) of what is image in them; what lies beyond was added to fit the network.
        """
        outputs = self._final(inputs)
        points, scores, *fields = self._candidates(outputs, inputs.shape[-2:])
        scores = _inside(points, scores, [shape] * len(inputs))
        more = fields[0] if fields else {}
        remarks = self._remarks(outputs, scores)
        return dict(points=points, scores=self._best(scores)) | more | remarks

    def read(self, inputs: Tensor, tips: list[InstanceData] | None = None) -> tuple[Tensor, Tensor]:
        """Return candidates (B, K, 2) in input pixels and scores (B, K); 0 is no candidate.

        Args:
            inputs: (B, 1, H, W), normalised.
            tips: the labels, which an enhancer with crop='oracle' asks for.
        """
        outputs = self._final(self._enhance(inputs, tips)[0])
        return self._candidates(outputs, inputs.shape[-2:])[:2]

    def predict(self, inputs: Tensor, data_samples: list[TipDataSample]) -> list[TipDataSample]:
        """Fill in `pred_tips`, in pixels of the original images, and what `_annotate` notes."""
        tips = [sample.gt_tips for sample in data_samples]
        outputs = self._final(self._enhance(inputs, tips)[0])
        return self._fill_in(data_samples, outputs, inputs.shape[-2:])

    def refuse_labels(self) -> None:
        """Raise unless predictions need no labels: called wherever there are none."""
        if self.enhancer is not None and self.enhancer.crop == 'oracle':
            raise ValueError(
                "crop='oracle' enhances round the labelled tips, which are what is asked for: it "
                "reproduces the paper's test only; use crop='none' or crop='proposed'"
            )

    def _enhance(
        self, inputs: Tensor, tips: list[InstanceData] | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the enhanced images, and the heatmap of the raw ones where crops came from it."""
        if self.enhancer is None:
            return inputs, None
        if self.enhancer.crop == 'none':
            return self.enhancer(inputs), None
        if self.enhancer.crop == 'oracle':
            if tips is None:
                self.refuse_labels()
            return self.enhancer.at(inputs, [t.points for t in tips]), None
        proposals = self._heatmap(inputs)
        points, scores = self.coarse.read(proposals.detach(), self.enhancer.proposals)
        peaks = [p[s > 0] for p, s in zip(points, scores, strict=True)]
        return self.enhancer.at(inputs, peaks), proposals

    def _judge(
        self, inputs: Tensor, data_samples: list[TipDataSample]
    ) -> tuple[tuple | Tensor, dict[str, Tensor]]:
        """Return `_forward`'s outputs and all losses."""
        tips = [sample.gt_tips for sample in data_samples]
        enhanced, proposals = self._enhance(inputs, tips)
        outputs = self._forward(enhanced)
        losses = self._losses(outputs, tips, inputs.shape[-2:])
        if proposals is not None:  # the raw image must go on to be understood
            losses['loss_proposals'] = self.coarse.loss(proposals, tips)['loss_heatmap']
        return outputs, losses

    def _final(self, enhanced: Tensor) -> tuple | Tensor:
        """Return the outputs that predictions are made of."""
        return self._forward(enhanced)

    def _remarks(self, outputs: tuple | Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Return what outputs and all scores (B, K) say of whole images, (B,) by name."""
        return {}

    def _annotate(
        self, data_samples: list[TipDataSample], outputs: tuple | Tensor, scores: Tensor
    ) -> None:
        """Note what is said of whole images: `_remarks`, `heatmap_iou` of labelled ones."""
        for name, values in self._remarks(outputs, scores).items():
            for sample, value in zip(data_samples, values.tolist(), strict=True):
                sample.set_metainfo({name: value})

    def test_step(self, data: dict) -> list[TipDataSample]:
        """Predict a collated batch; images that could not be read come back without prediction."""
        data, unread = split_unread(data)
        return (super().test_step(data) if data['data_samples'] else []) + unread

    def validate(self, data: dict) -> tuple[float, list[TipDataSample]]:
        """Return the total loss and the predictions of a collated batch, in one forward pass."""
        batch = self.data_preprocessor(data)
        inputs, samples = batch['inputs'], batch['data_samples']
        outputs, losses = self._judge(inputs, samples)
        return float(sum(losses.values())), self._fill_in(samples, outputs, inputs.shape[-2:])

    def forward(
        self, inputs: Tensor, data_samples: list[TipDataSample] | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[TipDataSample] | tuple | Tensor:
        """Run in mmengine's mode 'loss', 'predict' or 'tensor' (the raw outputs)."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return self._forward(self._enhance(inputs, None)[0])

    def _best(self, scores: Tensor) -> Tensor:
        """Return scores (B, K), 0 but for those of the `most` best."""
        if self.most is None or self.most >= scores.shape[1]:
            return scores
        best, places = scores.topk(self.most, dim=1)
        return torch.zeros_like(scores).scatter(1, places, best)

    def _fill_in(
        self, data_samples: list[TipDataSample], outputs: tuple | Tensor, size: tuple[int, int]
    ) -> list[TipDataSample]:
        points, scores, *fields = self._candidates(outputs, size)
        scores = _inside(points, scores, [sample.img_shape for sample in data_samples])
        self._annotate(data_samples, outputs, scores)
        scores = self._best(scores)
        more = fields[0] if fields else {}
        for i, (sample, s) in enumerate(zip(data_samples, scores, strict=True)):
            kept = s > 0
            known = {name: values[i][kept] for name, values in more.items()}
            sample.set_prediction(points[i][kept], s[kept], self.score_threshold, known)
        return data_samples


def _inside(points: Tensor, scores: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Return the scores (B, K), 0 of candidates (B, K, 2) beyond their image's (H, W).

    What lies there was added to fit the network, or a larger image of the batch.
    """
    edges = points.new_tensor([[width - 0.5, height - 0.5] for height, width in shapes])[:, None]
    return scores * ((points >= -0.5) & (points <= edges)).all(dim=-1)


def build_detector(config: dict) -> TipDetector:
    """Build the model of a config, which must be a detector that needs no labels to predict."""
    model = MODELS.build(_from_random_weights(config))
    if not isinstance(model, TipDetector):
        raise ValueError(
            f'{type(model).__name__} enhances images and finds no tips: give the config of a '
            'localiser that carries it'
        )
    model.refuse_labels()
    return model


def _from_random_weights(config: Any) -> Any:
    """Return a config without weights to begin with: a trained model brings its own."""
    if isinstance(config, dict):
        return {
            key: False if key == 'pretrained' else _from_random_weights(value)
            for key, value in config.items()
        }
    return config


def on_top_of(encoder: nn.Module, head: dict) -> nn.Module:
    """Build a head for the channels and the stride of an encoder, tied as the encoder is."""
    built = MODELS.build(head | dict(in_channels=encoder.channels, stride=encoder.stride))
    if getattr(encoder, 'equivariant', False):
        if not hasattr(built, 'tie'):
            raise ValueError(
                f'{type(built).__name__} cannot be tied: set equivariant=False in the encoder'
            )
        built.tie()
    return built
