"""A detector's network run by ONNX Runtime: the same predictions on a CPU, in less time."""

import importlib.util
import io
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from pipedet.models.center_net import CenterNet
from pipedet.models.tip_detector import TipDetector

RUNTIMES = ('torch', 'onnxruntime')
_NEEDED = ('onnx', 'onnxscript', 'onnxruntime')
_KEPT = 4  # sizes of images whose translation is kept: each holds all weights
_TOLERANCE = 1e-3  # of the largest number that torch computes


def run_by(runtime: str, model: TipDetector) -> TipDetector:
    """Let a runtime compute what predictions are made of, in place; return the model.

    An enhancer stays with torch.

    Args:
        runtime: one of `RUNTIMES`.
        model: in eval mode, on the CPU, with its final weights.

    Raises:
        ValueError: there is no such runtime, or it runs no model like this.
        RuntimeError: its packages are not installed.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f'no runtime {runtime!r}: there are {", ".join(RUNTIMES)}')
    if runtime == 'torch':
        return model
    if model.training or next(model.parameters()).device.type != 'cpu':
        raise ValueError('onnxruntime is for models in eval mode on the CPU')
    if isinstance(model, CenterNet):
        raise ValueError('onnxruntime is not for a CenterNet, which cuts images into windows')
    if isinstance(model._final, OnnxNetwork):
        raise ValueError('onnxruntime runs this model already')
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeError(f'onnxruntime needs {", ".join(missing)}: pip install -e ".[onnx]"')
    model._final = OnnxNetwork(model._final)
    return model


class OnnxNetwork:
    """A function of (B, C, H, W) images, translated for each new shape of them: that takes seconds.

    The translations of the last few shapes are kept.

    Args:
        network: makes a tensor, or tuples of tensors, of a tensor.
    """

    def __init__(self, network: Callable[[Tensor], tuple | Tensor]) -> None:
        self.network = network
        self._sessions: OrderedDict[torch.Size, tuple] = OrderedDict()

    def __call__(self, images: Tensor) -> tuple | Tensor:
        """Return what the network makes of the images.

        Raises:
            RuntimeError: a translation does not compute what torch computes.
        """
        images = images.detach().contiguous()
        if images.shape not in self._sessions:
            self._sessions[images.shape] = self._translate(images)
            if len(self._sessions) > _KEPT:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(images.shape)
        session, structure = self._sessions[images.shape]
        return tree_unflatten(_run(session, images), structure)

    def _translate(self, images: Tensor) -> tuple:
        import onnxruntime

        with torch.no_grad():
            expected, structure = tree_flatten(self.network(images))
            model = to_onnx(_Function(self.network), images)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # What finds the peaks is torch: threads that wait busily would be in its way.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        session = onnxruntime.InferenceSession(model, options, ['CPUExecutionProvider'])
        for ours, theirs in zip(_run(session, images), expected, strict=True):
            off = (ours - theirs).abs().max()
            if not off <= _TOLERANCE * theirs.abs().max().clamp(min=1):
                raise RuntimeError(
                    f'ONNX Runtime is {off:.2g} off what torch computes: use torch for this model'
                )
        return session, structure


class _Function(nn.Module):
    """A function as the module that the exporter asks for; its weights become constants."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> list[Tensor]:
        return tree_flatten(self.function(images))[0]


def _run(session, images: Tensor) -> list[Tensor]:
    outputs = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return [torch.from_numpy(one) for one in outputs]


def to_onnx(network: nn.Module, images: Tensor) -> bytes:
    """Return a network, for images of this shape alone, as an ONNX model."""
    file, log = io.BytesIO(), logging.getLogger('torch.onnx')
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of its own future, as the warnings do
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            program = torch.onnx.export(network.eval(), (images,), dynamo=True, verbose=False)
    finally:
        log.setLevel(level)
    program.save(file)
    return file.getvalue()
