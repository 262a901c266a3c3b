"""Locate tips in an image from Python: `pipedet.load()(image)`, `TipLocaliser(config, weights)`."""

from dataclasses import dataclass
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
from pipedet.structures import TipDataSample


@dataclass
class Tips:
    """The tips of one image, best first; none where the localiser abstains.

    Attributes:
        points_px: (N, 2), (x, y) pixels of the image as given.
        scores: (N,) in [0, 1].
        points_um: (N, 2), `points_px` times the pixel size, or None for an image without a scale.
        covariance_px: (N, 2, 2) px^2, how sure each place is; None if the model does not say.
        direction: (N, 2), unit vectors from the tip back along the shaft, or None.
        z_um: (N,) heights above the focus, or None.
        kind: (N,) numbers of the kinds that a CenterNet tells apart, or None.
        abstained: why no answer is given, or None where one is. No tips without it means that there
            are none.
    """

    points_px: np.ndarray
    scores: np.ndarray
    points_um: np.ndarray | None
    covariance_px: np.ndarray | None = None
    direction: np.ndarray | None = None
    z_um: np.ndarray | None = None
    kind: np.ndarray | None = None
    abstained: str | None = None


class TipLocaliser:
    """A trained detector as a function of an image.

    Args:
        config: path of the config that the weights were trained with, or what it holds.
        weights: path of the weights.
        device: 'cpu' or 'cuda'.
    """

    def __init__(
        self, config: str | Path | Config, weights: str | Path, device: str = 'cpu'
    ) -> None:
        tune_cpu()
        if not isinstance(config, Config):
            config = Config.fromfile(config)
        self.model = build_detector(config.model)
        self.model.to(device, memory_format=torch.channels_last).eval()
        load_weights(Path(weights), self.model)
        fuse(self.model)
        self.pipeline = Compose(config.predict_pipeline)

    @torch.no_grad()
    def __call__(self, image: np.ndarray, pixel_size_um: tuple[float, float] | None = None) -> Tips:
        """Return the tips whose score reaches the detector's threshold.

        Args:
            image: (H, W), any numeric type; intensities need no scaling.
            pixel_size_um: (x, y) size of a pixel.

        Raises:
            ValueError: the image is not two-dimensional, or not finite; the size is no pixel's.
        """
        if image.ndim != 2 or min(image.shape) < 2:
            raise ValueError(f'an image is (H, W); this array is {image.shape}')
        if not np.isfinite(image).all():
            raise ValueError('the image holds NaN or infinite pixels')
        if pixel_size_um is not None:
            pixel_size_um = check_pixel_size(pixel_size_um, 'pixel_size_um')
        sample = prepare(self.pipeline, image, pixel_size_um)
        predicted = self.model.test_step(pseudo_collate([sample]))[0]
        reason = _why_abstain(image, predicted)
        found = predicted.detected[: 0 if reason else None]
        points = found.points.numpy()
        more = {ours: found[name].numpy() for name, ours in _MORE.items() if name in found}
        return Tips(
            points_px=points,
            scores=found.scores.numpy(),
            points_um=None if pixel_size_um is None else points * np.float32(pixel_size_um),
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
            source='array',
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


def _why_abstain(image: np.ndarray, predicted: TipDataSample) -> str | None:
    """Say why a prediction is not to be given out, or None."""
    if image.min() == image.max():
        return 'the image is uniform'
    novelty = predicted.get('novelty', 0.0)
    if novelty > 1:
        return f'the image is unlike those trained on (novelty {novelty:.1f}; up to 1 is known)'
    return None
