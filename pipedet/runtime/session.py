"""Tips from frames, as fast as a CPU goes: an exported detector under ONNX Runtime.

    session = TipSession('tips.onnx')
    tips = session(frame)

Neither torch nor mmengine is imported here.
"""

import json
from pathlib import Path

import numpy as np

from pipedet.runtime.frames import extend, normalise, warp
from pipedet.runtime.lines import count_dead_lines, fill_dead_lines
from pipedet.runtime.tips import (
    Tips,
    check_share,
    no_answer,
    why_unlike,
    why_unsure,
    why_unusable,
)

META = 'pipedet'  # key of what the file says of itself, as JSON


class TipSession:
    """An exported detector as a function of a frame; `pipedet export` writes its file.

    Args:
        path: the .onnx file.
        threads: of ONNX Runtime; None for all cores.
        min_confidence: a frame whose answer has less `confidence` is not answered.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: ONNX Runtime is not installed; it says how to.
        ValueError: the file is no detector that `pipedet export` wrote, or a confidence is asked of
            one that knows none.
    """

    def __init__(
        self, path: str | Path, threads: int | None = None, *, min_confidence: float | None = None
    ) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ImportError('ONNX Runtime is missing: pip install onnxruntime') from error
        if not Path(path).is_file():
            raise FileNotFoundError(f'no exported detector at {path}')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        try:
            self.network = onnxruntime.InferenceSession(
                str(path), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # ONNX Runtime's own kinds share no other base
            raise ValueError(f'{path} cannot be loaded: {error}') from error
        self.names = [output.name for output in self.network.get_outputs()]
        if min_confidence is not None and 'confidence' not in self.names:
            raise ValueError(f'min_confidence: {path} says of no answer how sure it is')
        self.min_confidence = min_confidence and check_share(min_confidence, 'min_confidence')
        notes = self.network.get_modelmeta().custom_metadata_map
        if META not in notes:
            raise ValueError(f"{path} was not written by 'pipedet export'")
        own = json.loads(notes[META])
        self.frame: tuple[int, int] = tuple(own['frame'])
        self.pixel_size_um = own['pixel_size_um'] and tuple(own['pixel_size_um'])
        self.score_threshold: float = own['score_threshold']
        self.matrix = np.array(own['matrix'])
        self.shape = tuple(own['shape'])  # of the network's input, before it is extended
        self.inverse = np.linalg.inv(self.matrix)

    def __call__(self, frame: np.ndarray) -> Tips:
        """Return the tips whose score reaches the detector's threshold.

        Args:
            frame: (H, W) of the size that the detector was exported for, any numeric type.

        Raises:
            ValueError: the frame has another size.
        """
        unusable = why_unusable(frame)
        if frame.shape != self.frame:
            raise ValueError(
                f'the detector was exported for frames of {self.frame} (H, W), this one is '
                f'{frame.shape}: export it again with --frame {frame.shape[0]} {frame.shape[1]}'
            )
        if unusable:
            return no_answer(unusable, self.pixel_size_um)
        outputs = self.network.run(None, {'image': self._input(frame)[None, None]})
        found = {name: value[0] for name, value in zip(self.names, outputs, strict=True)}
        unlike = why_unlike(float(found.pop('novelty', 0.0)))
        confidence = found.pop('confidence', None)
        confidence = None if unlike or confidence is None else float(confidence)
        tips = self._tips(unlike or why_unsure(confidence, self.min_confidence), **found)
        tips.confidence, tips.dead_lines = confidence, count_dead_lines(frame)
        return tips

    def _input(self, frame: np.ndarray) -> np.ndarray:
        frame = fill_dead_lines(frame)
        if self.shape != self.frame or (self.matrix != np.eye(3)).any():
            frame = warp(frame, self.matrix, self.shape)
        image = normalise(frame.astype(np.float32))
        return extend(image, self.network.get_inputs()[0].shape[2:])

    def _tips(
        self, reason: str | None, points: np.ndarray, scores: np.ndarray, **fields: np.ndarray
    ) -> Tips:
        """Keep what counts, best first, and take it back to the frame's own pixels."""
        edge = np.array(self.shape[::-1]) - 0.5
        kept = (scores > 0) & (scores >= self.score_threshold)
        kept &= ((points >= -0.5) & (points <= edge)).all(axis=1)  # older files answer beyond
        order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind='stable')]
        order = order[: 0 if reason else None]
        linear = self.inverse[:2, :2].astype(np.float32)
        points = points[order] @ self.inverse[:2, :2].T + self.inverse[:2, 2]
        fields = {name: values[order] for name, values in fields.items()}
        if 'covariance' in fields:
            fields['covariance_px'] = linear @ fields.pop('covariance') @ linear.T
        if 'direction' in fields:
            turned = fields['direction'] @ linear.T
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            fields['direction'] = turned / np.maximum(length, 1e-12)
        points = points.astype(np.float32)
        size = self.pixel_size_um
        return Tips(
            points_px=points,
            scores=scores[order],
            points_um=None if size is None else points * np.float32(size),
            abstained=reason,
            **fields,
        )
