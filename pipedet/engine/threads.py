"""A step's forward and backward passes on several CPU threads, each with samples of its own.

A small network's layers are too short to be shared: threads that meet at the end of every layer
wait for each other most of the time. Here they meet twice in a step, for the loss of the whole
batch and for the sum of the gradients (`benchmarks/threads.py` has the times). As in a training on
several machines, BatchNorm sees the samples of one thread at a time; all else is what one pass
computes.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from mmengine.dist import get_world_size
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.data import DataLoader

from pipedet.models.tip_detector import TipDetector

_RANDOM = (nn.modules.dropout._DropoutNd, DropPath)


class ThreadedGradients:
    """Copies of a model that share its weights, one for each thread.

    Weights are to be changed in place, as optimisers do.

    Args:
        model: on the CPU, without an enhancer and without dropout.
        threads: how many.
        per_thread: the fewest samples that a thread may have to itself.
    """

    def __init__(self, model: TipDetector, threads: int, per_thread: int) -> None:
        self.model, self.threads, self.per_thread = model, threads, per_thread
        cores = max(1, torch.get_num_threads() // threads)
        self._pool = ThreadPoolExecutor(
            threads, initializer=torch.set_num_threads, initargs=(cores,)
        )
        self.renew()

    def renew(self) -> None:
        """Copy the model anew: its mode or what is frozen has changed."""
        self.copies = [self.model, *(_sharing_copy(self.model) for _ in range(1, self.threads))]

    def __call__(self, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of a collated batch to the model's own.

        Returns:
            the total loss and the values to log, without a graph.
        """
        data = self.model.data_preprocessor(batch, training=True)
        inputs, tips = data['inputs'], [sample.gt_tips for sample in data['data_samples']]
        count = max(1, min(self.threads, len(inputs) // self.per_thread))
        used = self.copies[:count]
        outputs = list(
            self._pool.map(lambda own, part: own._forward(part), used, inputs.tensor_split(count))
        )
        # The loss is of the whole batch: it may be a mean over tips, of which threads have not
        # equally many.
        flat = [tree_flatten(part)[0] for part in outputs]
        joined = [torch.cat(parts).detach() for parts in zip(*flat, strict=True)]
        learned = [i for i, part in enumerate(flat[0]) if part.requires_grad]
        for i in learned:
            joined[i].requires_grad_()
        whole = tree_unflatten(joined, tree_flatten(outputs[0])[1])
        loss, logged = self.model.parse_losses(self.model._losses(whole, tips, inputs.shape[-2:]))
        loss.backward()
        learned = [i for i in learned if joined[i].grad is not None]  # others have no loss
        gradients = [joined[i].grad.tensor_split(count) for i in learned]
        list(
            self._pool.map(
                torch.autograd.backward,
                [[part[i] for i in learned] for part in flat],
                zip(*gradients, strict=True),
            )
        )
        self._gather(used)
        return loss.detach(), {name: value.detach() for name, value in logged.items()}

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
        for own, *others in zip(*(model.buffers() for model in self.copies), strict=True):
            active = [own, *others[: len(used) - 1]]
            # A mean of equal numbers need not be the number: what is frozen stays as it is.
            if own.is_floating_point() and any(not other.equal(own) for other in active[1:]):
                own.copy_(torch.stack(active).mean(dim=0))
            for other in others:
                other.copy_(own)


def threaded(model: nn.Module, batch_size: int, per_thread: int | None) -> ThreadedGradients | None:
    """Return what deals batches out to threads, or None where all are to work on a batch together.

    That is with one thread, on a GPU, beside other ranks, and for a detector with an enhancer.

    Args:
        model: a detector, or its distributed wrapper.
        batch_size: samples of a batch.
        per_thread: the fewest samples that a thread may have to itself, or None not to deal.

    Raises:
        ValueError: the model cannot be dealt out, or `per_thread` is no number of samples.
    """
    on_cpu = next(model.parameters()).device.type == 'cpu'
    if per_thread is None or not on_cpu or get_world_size() > 1:
        return None
    if per_thread < 1:
        raise ValueError(f'per_thread={per_thread}: a thread needs a sample at least')
    if not isinstance(model, TipDetector):
        raise ValueError(f'per_thread is for detectors; a {type(model).__name__} steps by itself')
    if model.enhancer is not None:  # large layers: they are shared well
        return None
    for name, module in model.named_modules():
        if isinstance(module, _RANDOM) and getattr(module, 'p', getattr(module, 'drop_prob', 0)):
            raise ValueError(
                f'{name} draws at random, in no fixed order among threads: leave out per_thread'
            )
    threads = min(torch.get_num_threads(), batch_size // per_thread)
    return ThreadedGradients(model, threads, per_thread) if threads > 1 else None


def ahead(loader: DataLoader) -> Iterator[dict]:
    """Yield the batches of a loader, each loaded while the one before it is being used.

    A loader with workers of its own does so by itself.
    """
    if loader.num_workers:
        yield from loader
        return
    batches = iter(loader)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _sharing_copy(model: TipDetector) -> TipDetector:
    twin = copy.deepcopy(model)
    for theirs, own in zip(twin.parameters(), model.parameters(), strict=True):
        theirs.data, theirs.grad = own.data, None
    return twin
