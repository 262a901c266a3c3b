"""Asked to stop by SIGTERM or Ctrl-C: at the end of the iteration, or at once the second time."""

import signal
import threading
from types import FrameType

import torch
from mmengine.dist import all_reduce, get_world_size

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """A run ended early, its state saved; the exit code is the one that shells expect."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class StopRequest:
    """A context in which the first signal is noted, and the second acts as it always did."""

    def __init__(self) -> None:
        self.number = 0
        self._previous: dict = {}

    def __enter__(self) -> 'StopRequest':
        # Python lets only its main thread handle signals; elsewhere they act as they always did.
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.__exit__()

    def check(self) -> None:
        """Raise `Stopped` on every rank where one of them was asked."""
        number = self.number
        if get_world_size() > 1:
            highest = torch.tensor([number])
            all_reduce(highest, op='max')
            number = int(highest)
        if number:
            raise Stopped(number)
