"""TipDataSample: what is known and what was predicted about one image.

Points are (x, y) float32 pixels, x right, y down, pixel centres at integers. `gt_tips.points` live
in the frame of the network's input; `pred_tips.points` always in that of the original image.
`matrix` takes original pixels to input pixels. Micrometres come only from `pixel_size_um`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement, InstanceData

# What every sample says about itself, beside its tips.
META_KEYS = (
    'source',  # path of the image, or 'synthetic/<subset>/<index>'
    'frame',  # page of a stack, 0 otherwise
    'session',  # recording session: splits never cut through one
    'subset',  # name of the evaluation set
    'pixel_size_um',  # (x, y) size of an original pixel, or None when the image carries no scale
    'ori_shape',  # (H, W) of the original image
    'img_shape',  # (H, W) of the network's input
    'matrix',  # (3, 3) float64, original pixels -> input pixels
)


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move (N, 2) points by a (3, 3) matrix."""
    return (points @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


class TipDataSample(BaseDataElement):
    """One image's truth (`gt_tips`) and prediction (`pred_tips`), both `InstanceData`.

    `gt_tips`: points (N, 2), and where the source knows them `cnr` (N,), `z_um` (N,) above the
    focus, and `direction` (N, 2), a unit vector from the tip back along the shaft. Where there are
    several kinds of objects, `kind` (N,) long.
    `pred_tips`: points (M, 2) and scores (M,) in [0, 1], every candidate, best first; of detectors
    that predict them also `covariance` (M, 2, 2) px^2, `direction`, `z_um` and `kind`.
    `mask` (H, W) bool, of sets with a region of interest: original pixels in which objects count.
    `score_threshold`: the detector's own operating point; `detected` are the candidates above it.
    """

    @property
    def detected(self) -> InstanceData:
        """The candidates that the detector stands by: score >= `score_threshold`."""
        return self.pred_tips[self.pred_tips.scores >= self.score_threshold]

    def set_prediction(
        self,
        points: torch.Tensor,
        scores: torch.Tensor,
        threshold: float,
        fields: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Store candidates, (M, 2) input pixels and (M,), as original pixels, best first.

        `fields` are what else is predicted of each, in the frame of the input.
        """
        order = scores.argsort(descending=True, stable=True)
        points = points[order].cpu().double().numpy()
        inverse = np.linalg.inv(self.matrix)
        self.pred_tips = InstanceData(
            points=torch.from_numpy(apply_affine(inverse, points).reshape(-1, 2)),
            scores=scores[order].float().cpu(),
            **_turn_back(fields or {}, order, torch.from_numpy(inverse[:2, :2]).float()),
        )
        self.set_metainfo(dict(score_threshold=threshold))


def _turn_back(
    fields: dict[str, torch.Tensor], order: torch.Tensor, linear: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the fields in `order` and in original pixels, to which `linear` (2, 2) leads."""
    back = {
        name: values.float() if values.is_floating_point() else values
        for name, values in ((name, values[order].cpu()) for name, values in fields.items())
    }
    if 'covariance' in back:
        back['covariance'] = linear @ back['covariance'] @ linear.mT
    if 'direction' in back:
        back['direction'] = F.normalize(back['direction'] @ linear.mT, dim=-1)
    return back


def split_unread(batch: dict) -> tuple[dict, list[TipDataSample]]:
    """Part a collated batch into what could be read, and the samples whose image could not.

    The latter say why as `fault`, and have no entry in `inputs` but None.
    """
    samples = batch['data_samples']
    read = [i for i, sample in enumerate(samples) if 'fault' not in sample.metainfo_keys()]
    unread = [sample for sample in samples if 'fault' in sample.metainfo_keys()]
    return {key: [values[i] for i in read] for key, values in batch.items()}, unread
