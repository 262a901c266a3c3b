"""A detector's network run by ONNX Runtime: the same numbers on a CPU in two thirds of the time."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from pipedet.models.tip_detector import TipDetector

RUNTIMES = ('torch', 'onnxruntime')
_NEEDED = ('onnx', 'onnxscript', 'onnxruntime')


def run_by(runtime: str, model: TipDetector) -> TipDetector:
    """Let a runtime compute what predictions are made of, in place; return the model.

    Args:
        runtime: one of `RUNTIMES`.
        model: in eval mode, on the CPU, with its final weights.

    Raises:
        ValueError: there is no such runtime, or it runs no model like this.
        ModuleNotFoundError: its packages are not installed.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f'no runtime {runtime!r}: there are {", ".join(RUNTIMES)}')
    if runtime == 'torch':
        return model
    if model.training or next(model.parameters()).device.type != 'cpu':
        raise ValueError('onnxruntime is for models in eval mode on the CPU')
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'onnxruntime needs {", ".join(missing)}: pip install -e ".[onnx]"'
        )
    model._final = OnnxNetwork(model._final)
    return model


class OnnxNetwork:
    """A function of (B, C, H, W) images, translated for each new shape of them: that takes seconds.

    Args:
        network: makes a tensor, or tuples of tensors, of a tensor.
    """

    def __init__(self, network: Callable[[Tensor], tuple | Tensor]) -> None:
        self.network = network
        self._sessions: dict[torch.Size, tuple] = {}

    def __call__(self, images: Tensor) -> tuple | Tensor:
        """Return what the network makes of the images."""
        if images.shape not in self._sessions:
            self._sessions[images.shape] = self._translate(images)
        session, structure = self._sessions[images.shape]
        outputs = session.run(None, {session.get_inputs()[0].name: images.contiguous().numpy()})
        return tree_unflatten([torch.from_numpy(one) for one in outputs], structure)

    def _translate(self, images: Tensor) -> tuple:
        import onnxruntime

        with torch.no_grad():
            _, structure = tree_flatten(self.network(images))
            model = to_onnx(_Function(self.network), images)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(model, options, ['CPUExecutionProvider'])
        return session, structure


class _Function(nn.Module):
    """A function as the module that the exporter asks for; its weights become constants."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> list[Tensor]:
        return tree_flatten(self.function(images))[0]


def to_onnx(network: nn.Module, images: Tensor) -> bytes:
    """Return a network, for images of this shape alone, as an ONNX model."""
    file = io.BytesIO()
    log = logging.getLogger('torch.onnx')
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter's, of its own future
        program = torch.onnx.export(network.eval(), (images,), dynamo=True, verbose=False)
    log.setLevel(level)
    program.save(file)
    return file.getvalue()
