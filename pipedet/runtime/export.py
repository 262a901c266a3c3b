"""A trained detector as one ONNX file for `session.py`."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from torch import Tensor, nn

from pipedet.apis import prepare
from pipedet.models.tip_detector import TipDetector
from pipedet.runtime.session import META, TipSession

_NEEDED = ('onnx', 'onnxscript', 'onnxruntime')


class _Located(nn.Module):
    """From a normalised image (1, 1, H, W) to tips: what becomes the graph."""

    def __init__(self, model: TipDetector, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        located = self.model.locate(image)
        return tuple(located[name] for name in self.names)


@torch.no_grad()
def export(
    model: TipDetector,
    pipeline: Compose,
    path: Path,
    frame: tuple[int, int],
    pixel_size_um: tuple[float, float] | None = None,
) -> TipSession:
    """Write a detector for frames of one size; return it, as the rig will load it.

    Everything between the normalised image and the tips is in the graph. What the config does to
    an image before that, a resampling, is noted beside it and done by the session.

    Args:
        model: on the CPU, in eval mode, fused or not.
        pipeline: what its config does to an image, `predict_pipeline`.
        path: of the file.
        frame: (H, W) of the frames.
        pixel_size_um: (x, y) size of their pixels; a network that asks for it finds tips at a size
            of its own.

    Raises:
        ValueError: the detector enhances images or averages views, which is not exported.
        RuntimeError: what was written does not compute what the detector does, or a package that
            writes it is missing.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RuntimeError(f"to export takes {', '.join(missing)}: pip install -e '.[export]'")
    if model.enhancer is not None or getattr(model, 'average_views', False):
        raise ValueError(
            'only a detector without enhancer and without average_views is exported: both are for '
            'accuracy at any price'
        )
    sample = prepare(pipeline, np.zeros(frame, np.float32), pixel_size_um)
    about = sample['data_samples']
    inputs = model.data_preprocessor(dict(inputs=[sample['inputs']], data_samples=[about]))
    image = torch.rand(inputs['inputs'].shape, generator=torch.Generator().manual_seed(0)) - 0.5
    # Once before it is traced: constants that are made at the first call are then real ones.
    expected = model.locate(image)
    names = list(expected)
    program = torch.onnx.export(
        _Located(model, names).eval(),
        (image,),
        dynamo=True,
        input_names=['image'],
        output_names=names,
        verbose=False,
    )
    program.model.metadata_props[META] = json.dumps(
        dict(
            frame=frame,
            pixel_size_um=pixel_size_um,
            shape=about.img_shape,
            matrix=about.matrix.tolist(),
            score_threshold=model.score_threshold,
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path, external_data=False)
    session = TipSession(path)
    written = dict(zip(names, session.network.run(None, {'image': image.numpy()}), strict=True))
    if not np.allclose(written['scores'], expected['scores'].numpy(), atol=1e-3):
        raise RuntimeError(f'{path} does not compute what the detector does: do not use it')
    return session
