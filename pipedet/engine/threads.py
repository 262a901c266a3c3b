"""Gradients of a batch on several CPU threads, each with samples of its own.

A small network's layers are too short to be shared: two threads that wait for each other at the end
of every layer do a step in two thirds of the time of one thread, two that have half of the batch
each and meet once a step in half of it. As in a training on several machines, BatchNorm sees the
samples of one thread at a time.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn

from pipedet.models.tip_detector import TipDetector


class ThreadedGradients:
    """Copies of a model that share its weights, one for each thread.

    Weights are to be changed in place, as optimisers do. What a model draws at random has no fixed
    order among threads: do not use this for models with dropout.

    Args:
        model: on the CPU.
        threads: how many.
    """

    def __init__(self, model: TipDetector, threads: int) -> None:
        self.model, self.threads = model, threads
        self.copies: list[TipDetector] = [model]
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def renew(self) -> None:
        """Copy the model anew: its mode or what is frozen has changed."""
        self.copies = [self.model, *(_sharing_copy(self.model) for _ in range(1, self.threads))]

    def __call__(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of a collated batch to the model's own.

        Returns:
            the total loss, without a graph, and the values to log: means over the threads, by
            their numbers of samples.
        """
        parts = _split(batch, self.threads)
        total = len(batch['data_samples'])
        jobs = [
            self._pool.submit(_backward, own, part, len(part['data_samples']) / total)
            for own, part in zip(self.copies, parts, strict=False)
        ]
        logged = [job.result() for job in jobs]
        self._gather(self.copies[: len(jobs)])
        means = {name: torch.stack([row[name] for row in logged]).sum(dim=0) for name in logged[0]}
        return means['loss'], means

    @torch.no_grad()
    def _gather(self, used: list[TipDetector]) -> None:
        """Sum up gradients in the model, and let all have the mean of BatchNorm's statistics."""
        for other in used[1:]:
            for weight, theirs in zip(self.model.parameters(), other.parameters(), strict=True):
                if theirs.grad is None:
                    continue
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
                weight.grad.add_(theirs.grad)
                theirs.grad = None
        for own, *others in zip(*(own.buffers() for own in self.copies), strict=True):
            if own.is_floating_point():
                mean = torch.stack([own, *others[: len(used) - 1]]).mean(dim=0)
                own.copy_(mean)
            for other in others:
                other.copy_(own)


def threaded(model: nn.Module, batch_size: int, per_thread: int | None) -> ThreadedGradients | None:
    """Return what deals batches out to threads; None where there is one, a GPU or other ranks.

    Args:
        model: a detector, or its distributed wrapper.
        batch_size: samples of a batch.
        per_thread: the fewest samples that a thread may have to itself, or None not to deal.
    """
    on_cpu = next(model.parameters()).device.type == 'cpu'
    if per_thread is None or not on_cpu or get_world_size() > 1:
        return None
    if not isinstance(model, TipDetector):
        raise TypeError(f'per_thread is for detectors; a {type(model).__name__} steps by itself')
    threads = min(torch.get_num_threads(), batch_size // per_thread)
    return ThreadedGradients(model, threads) if threads > 1 else None


def _sharing_copy(model: TipDetector) -> TipDetector:
    twin = copy.deepcopy(model)
    for theirs, own in zip(twin.parameters(), model.parameters(), strict=True):
        theirs.data, theirs.grad = own.data, None
    return twin


def _split(batch: dict, parts: int) -> list[dict]:
    """Deal the samples of a batch out; fewer samples than parts make fewer parts."""
    count = min(parts, len(batch['data_samples']))
    return [{key: values[i::count] for key, values in batch.items()} for i in range(count)]


def _backward(model: TipDetector, batch: dict, share: float) -> dict[str, Tensor]:
    data = model.data_preprocessor(batch, training=True)
    loss, logged = model.parse_losses(model(**data, mode='loss'))
    (share * loss).backward()
    return {name: share * value.detach() for name, value in logged.items()}
