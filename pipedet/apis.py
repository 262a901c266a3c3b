"""Locate tips in an image from Python: `pipedet.load()(image)`, `TipLocaliser(config, weights)`."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from pipedet.engine.checkpoint import load_weights
from pipedet.engine.cpu import tune_cpu
from pipedet.formats.schema import check_pixel_size
from pipedet.models.fusing import fuse
from pipedet.models.tip_detector import build_detector
from pipedet.runtime.lines import count_dead_lines
from pipedet.runtime.tips import (
    Tips,
    check_share,
    no_answer,
    why_unlike,
    why_unsure,
    why_unusable,
)


class TipLocaliser:
    """A trained detector as a function of an image.

    Args:
        config: path of the config that the weights were trained with, or what it holds.
        weights: path of the weights.
        device: 'cpu' or 'cuda'.
        max_tips: how many tips an image can hold: of more the best are answered.
        threshold: the score from which a candidate is a tip, in place of the model's own.
        min_confidence: an image whose answer has less `confidence` is not answered.

    Raises:
        ValueError: one of these is out of range, or the model knows no confidence.
    """

    def __init__(
        self,
        config: str | Path | Config,
        weights: str | Path,
        device: str = 'cpu',
        *,
        max_tips: int | None = None,
        threshold: float | None = None,
        min_confidence: float | None = None,
    ) -> None:
        tune_cpu()
        if not isinstance(config, Config):
            config = Config.fromfile(config)
        self.model = build_detector(config.model)
        self.model.to(device, memory_format=torch.channels_last).eval()
        load_weights(Path(weights), self.model)
        fuse(self.model)
        if max_tips is not None and max_tips < 1:
            raise ValueError(f'max_tips: one or more, not {max_tips}')
        self.model.most = max_tips
        if threshold is not None:
            self.model.score_threshold = check_share(threshold, 'threshold')
        if min_confidence is not None and not self.model.judges_answers:
            raise ValueError('min_confidence: this model says of no answer how sure it is')
        self.min_confidence = min_confidence and check_share(min_confidence, 'min_confidence')
        self.pipeline = Compose(config.predict_pipeline)

    @torch.no_grad()
    def __call__(self, image: np.ndarray, pixel_size_um: tuple[float, float] | None = None) -> Tips:
        """Return the tips whose score reaches the detector's threshold.

        Args:
            image: (H, W), any numeric type; intensities need no scaling.
            pixel_size_um: (x, y) size of a pixel.

        Raises:
            ValueError: the image is not two-dimensional, or the size is no pixel's.
        """
        unusable = why_unusable(image)
        if pixel_size_um is not None:
            pixel_size_um = check_pixel_size(pixel_size_um, 'pixel_size_um')
        if unusable:
            return no_answer(unusable, pixel_size_um)
        sample = prepare(self.pipeline, image, pixel_size_um)
        predicted = self.model.test_step(pseudo_collate([sample]))[0]
        unlike = why_unlike(predicted.get('novelty', 0.0))
        confidence = None if unlike else predicted.get('confidence')
        reason = unlike or why_unsure(confidence, self.min_confidence)
        found = predicted.detected[: 0 if reason else None]
        points = found.points.numpy()
        more = {ours: found[name].numpy() for name, ours in _MORE.items() if name in found}
        return Tips(
            points_px=points,
            scores=found.scores.numpy(),
            points_um=None if pixel_size_um is None else points * np.float32(pixel_size_um),
            confidence=confidence,
            dead_lines=count_dead_lines(image),
            abstained=reason,
            **more,
        )


def prepare(
    pipeline: Compose, image: np.ndarray, pixel_size_um: tuple[float, float] | None = None
) -> dict:
    """Return what a config's `predict_pipeline` makes of an (H, W) image that has no labels."""
    return pipeline(
        dict(
            image=image,
            tips=np.empty((0, 2), np.float32),
            tip_fields={},
            source='the image',
            frame=0,
            session='array',
            subset='array',
            pixel_size_um=pixel_size_um,
            ori_shape=image.shape,
            img_shape=image.shape,
            matrix=np.eye(3),
        )
    )


_MORE = dict(covariance='covariance_px', direction='direction', z_um='z_um', kind='kind')
