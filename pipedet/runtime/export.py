"""A trained detector as one ONNX file for `session.py`."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from torch import Tensor, nn

from pipedet.apis import prepare
from pipedet.formats.schema import check_pixel_size
from pipedet.models.tip_detector import TipDetector
from pipedet.runtime.frames import normalise, warp
from pipedet.runtime.session import META, TipSession
from pipedet.synthesis import draw_scene

_NEEDED = ('onnx', 'onnxscript', 'onnxruntime')
_LIKELY = 0.05  # the score of a candidate that both must agree on


class _Located(nn.Module):
    """From a normalised image (1, 1, H, W) to tips: what becomes the graph."""

    def __init__(self, model: TipDetector, names: list[str], shape: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.names, self.shape = model, names, shape

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        located = self.model.locate(image, self.shape)
        return tuple(located[name] for name in self.names)


@torch.no_grad()
def export(
    model: TipDetector,
    pipeline: Compose,
    path: Path,
    frame: tuple[int, int],
    pixel_size_um: float | tuple[float, float] | None = None,
) -> TipSession:
    """Write a detector for frames of one size; return it, as the rig will load it.

    Everything between the normalised image and the tips is in the graph. What the config does to
    an image before that, a resampling, is noted beside it and done by the session.

    Args:
        model: on the CPU, in eval mode, fused or not.
        pipeline: what its config does to an image, `predict_pipeline`.
        path: of the file.
        frame: (H, W) of the frames.
        pixel_size_um: size of their pixels, one or (x, y); a network that asks for it finds tips
            at a size of its own.

    Raises:
        ValueError: the detector enhances images or averages views, which is not exported, or the
            size is no pixel's.
        RuntimeError: what was written does not compute what the detector does, or a package that
            writes it is missing.
    """
    _check_exportable(model)
    if pixel_size_um is not None:
        pixel_size_um = check_pixel_size(pixel_size_um, 'pixel_size_um')
    sample = prepare(pipeline, np.zeros(frame, np.float32), pixel_size_um)
    about = sample['data_samples']
    inputs = model.data_preprocessor(dict(inputs=[sample['inputs']], data_samples=[about]))
    image = _example(inputs['inputs'].shape[-2:])
    # Once before it is traced: constants that are made at the first call are then real ones.
    expected = model.locate(image, about.img_shape)
    located = _Located(model, list(expected), about.img_shape)
    program = _trace(located, image)
    program.model.metadata_props[META] = json.dumps(
        dict(
            frame=frame,
            pixel_size_um=pixel_size_um,
            shape=about.img_shape,
            matrix=about.matrix.tolist(),
            score_threshold=model.score_threshold,
        )
    )
    _write(program, path, image, expected)
    return TipSession(path)


def _check_exportable(model: TipDetector) -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RuntimeError(f'to export takes {", ".join(missing)}: pip install -e ".[export]"')
    if model.enhancer is not None or any(
        getattr(part, 'average_views', False) for part in model.modules()
    ):
        raise ValueError(
            'enhancers and averages over views are not exported: set model.enhancer = None and '
            "average_views = False in the run's config.py"
        )


def _trace(located: _Located, image: Tensor) -> torch.onnx.ONNXProgram:
    return torch.onnx.export(
        located.eval(),
        (image,),
        dynamo=True,
        input_names=['image'],
        output_names=located.names,
        verbose=False,
    )


def _write(
    program: torch.onnx.ONNXProgram, path: Path, image: Tensor, expected: dict[str, Tensor]
) -> None:
    """Write beside the old file, and replace it once the new one says what is expected."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.part')
    try:
        program.save(partial, external_data=False)
        outputs = TipSession(partial).network.run(None, {'image': image.numpy()})
        _compare(dict(zip(expected, outputs, strict=True)), expected)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _compare(written: dict[str, np.ndarray], expected: dict[str, Tensor]) -> None:
    """Raise RuntimeError unless both say the same; what scores next to none may vary."""
    likely = expected['scores'].numpy() > _LIKELY
    for name, tensor in expected.items():
        ours, theirs = written[name], tensor.numpy()
        if name != 'scores' and ours.shape[:2] == likely.shape:
            ours, theirs = ours[likely], theirs[likely]
        if not np.allclose(ours, theirs, rtol=1e-2, atol=1e-2):
            raise RuntimeError(f'the file would compute other {name} than the detector does')


def _example(shape: tuple[int, int]) -> Tensor:
    """Return a scene with tips as a network sees it, (1, 1, H, W)."""
    frame = draw_scene('clear', seed=0, epoch=0, index=0).capture()
    down, across = (new / old for new, old in zip(shape, frame.shape, strict=True))
    resized = warp(frame, np.diag([across, down, 1]), shape)
    return torch.from_numpy(normalise(resized))[None, None]
