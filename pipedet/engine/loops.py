"""The training loop of several stages, each with its own trainable parts and learning rate.

Stages are a loop and not a hook, because switching to train mode would wake frozen BatchNorm layers
after any hook has run. Every epoch has its own order and draws, every iteration its own seed for
what is random inside the model, so a run stopped anywhere and resumed repeats an unbroken one.
"""

import signal
import time
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import all_reduce, broadcast, get_world_size
from mmengine.runner import ValLoop
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import DataLoader

from pipedet.datasets import DatasetError, EpochSampler
from pipedet.engine.players import optimisers
from pipedet.engine.stages import Stage, build_stage
from pipedet.engine.stopping import Stopped, StopRequest
from pipedet.models.parts import unwrap
from pipedet.registry import LOOPS
from pipedet.structures import TipDataSample, split_unread

MAX_UNREAD = 0.01  # share of a training set whose images may turn out to be unreadable


@LOOPS.register_module()
class StagedTrainLoop(BaseLoop):
    """Train the stages one after the other.

    Args:
        runner: the runner.
        dataloader: of the training set; its dataset and sampler are told the epoch.
        stages: dicts of name, parts, epochs, lr, schedule, and a `patience` if it may end early
            (the fields of `Stage`).
        val_interval: epochs between validations; the end of a stage is always validated.
    """

    def __init__(
        self, runner, dataloader: DataLoader | dict, stages: Sequence[dict], val_interval: int
    ) -> None:
        super().__init__(runner, dataloader)
        if not isinstance(self.dataloader.sampler, EpochSampler):
            raise TypeError(
                "the training dataloader's sampler must be pipedet.datasets.EpochSampler, because "
                'a run that stopped in the middle of an epoch goes on from there'
            )
        self.stages = [build_stage(stage) for stage in stages]
        self.val_interval = val_interval
        self.stage_index, self.stage_epoch = 0, 0
        self.epoch, self.iter = 0, 0
        self.batch = 0  # iterations done in the current epoch
        self._request = StopRequest()
        self.unread: dict[str, str] = {}  # fault by source
        self.validation: dict[str, float] = {}  # metrics of the last one

    @property
    def stage(self) -> Stage:
        """The current stage; the last one once all are done."""
        return self.stages[min(self.stage_index, len(self.stages) - 1)]

    @property
    def max_epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def max_iters(self) -> int:
        """Iterations of all stages; with a budget, as many as it is expected to leave time for."""
        return sum(self.expected_iters(stage) for stage in self.stages)

    def run(self) -> torch.nn.Module:
        """Run what is left of all stages; save and raise `Stopped` at SIGTERM or Ctrl-C."""
        self.runner.call_hook('before_train')
        with self._request:
            while self.stage_index < len(self.stages):
                self._enter()
                while self.stage_epoch < self.stage.epochs and self._progress() < 1:
                    self._run_epoch()
                self._leave()
            self._stop_if_asked()  # the last epoch does not ask any more
        self.runner.call_hook('after_train')
        return self.runner.model

    def state_dict(self) -> dict:
        """Return where the loop stands, as plain numbers."""
        return dict(
            stage_index=self.stage_index,
            stage_epoch=self.stage_epoch,
            epoch=self.epoch,
            iter=self.iter,
            batch=self.batch,
            validation=self.validation,
            stages=[stage.state_dict() for stage in self.stages],
        )

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`."""
        self.stage_index, self.stage_epoch = state['stage_index'], state['stage_epoch']
        self.epoch, self.iter, self.batch = state['epoch'], state['iter'], state['batch']
        self.validation = state['validation']
        for stage, saved in zip(self.stages, state['stages'], strict=True):
            stage.load_state_dict(saved)

    def _enter(self) -> None:
        stage = self.stage
        unwrap(self.runner.model).train_only(stage.parts)
        if self.stage_epoch == self.batch == 0:
            # The stages are trainings of their own: no moments are carried over.
            for optimiser in optimisers(self.runner.optim_wrapper):
                optimiser.state.clear()
        self.runner.logger.info(
            f'stage {stage.name!r}: trains {", ".join(stage.parts)}; lr {stage.lr:g}'
        )

    def _leave(self) -> None:
        if self.stage.has_lost_patience:
            self.runner.logger.info(f'stage {self.stage.name!r} ends early: {self.stage.patience}')
        self.stage_index, self.stage_epoch = self.stage_index + 1, 0

    def expected_iters(self, stage: Stage) -> int:
        """Iterations of a stage; with a budget, as many as it is expected to leave time for."""
        full = stage.epochs * len(self.dataloader)
        if stage.share_s is None:
            return full
        step_s = stage.elapsed_s / stage.iters_done if stage.iters_done else stage.step_s
        # At least one more than are done: the last step may begin before the time is over.
        return min(full, max(stage.iters_done + 1, round(stage.share_s / step_s)))

    def _progress(self) -> float:
        """Share of the stage done: by iterations, or by the clock where there is a budget."""
        stage = self.stage
        if stage.has_lost_patience:
            return 1.0
        by_iters = stage.iters_done / (stage.epochs * len(self.dataloader))
        by_clock = stage.elapsed_s / stage.share_s if stage.share_s else 0.0
        return max(by_iters, by_clock)

    def _run_epoch(self) -> None:
        started = time.perf_counter()
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for part in (self.dataloader.dataset, self.dataloader.sampler):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(self.epoch)
        if hasattr(self.dataloader.dataset, 'prepare'):
            self.dataloader.dataset.prepare()
        # What was seen before a stop in the middle of the epoch is not loaded again.
        self.dataloader.sampler.start = self.batch * self.dataloader.batch_size
        before = self.stage.elapsed_s
        for index, batch in enumerate(self.dataloader, start=self.batch):
            self._run_iter(index, batch)
            self.batch = index + 1
            self.stage.elapsed_s = _agreed(before + time.perf_counter() - started)
            if self._progress() >= 1:
                break
            self._stop_if_asked()
        self.epoch, self.batch = self.epoch + 1, 0
        self.stage_epoch += 1
        self.runner.average_statistics()
        self._validate_if_due()
        self.stage.elapsed_s = _agreed(before + time.perf_counter() - started)
        self.runner.call_hook('after_train_epoch')

    def _stop_if_asked(self) -> None:
        try:
            self._request.check()
        except Stopped as stopped:
            self.runner.average_statistics()
            self.runner.call_hook('save')
            name = signal.Signals(stopped.number).name
            self.runner.logger.warning(
                f'{name}: stopped after {self.iter} iterations, all saved; --resume goes on'
            )
            raise

    def _run_iter(self, index: int, batch: dict) -> None:
        self._set_lr()
        batch, unread = split_unread(batch)
        self._count_unread(unread)
        torch.manual_seed(iteration_seed(self.runner.seed, self.iter))
        self.runner.call_hook('before_train_iter', batch_idx=index, data_batch=batch)
        try:
            outputs = self._step(batch)
        except FloatingPointError as error:
            sources = [sample.source for sample in batch['data_samples']]
            raise FloatingPointError(
                f'{error} in iteration {self.iter} on {sources}; the weights were left as they '
                'were. Lower the learning rate, or look at these samples'
            ) from error
        self.runner.call_hook(
            'after_train_iter', batch_idx=index, data_batch=batch, outputs=outputs
        )
        self.iter += 1
        self.stage.iters_done += 1

    def _step(self, batch: dict) -> dict | None:
        if batch['data_samples']:
            return self.runner.model.train_step(batch, optim_wrapper=self.runner.optim_wrapper)
        if get_world_size() > 1:  # the other ranks would wait for this one's gradients for ever
            raise DatasetError('no image of a batch can be read; mend them, or use a larger batch')
        return None

    def _count_unread(self, unread: Sequence[TipDataSample]) -> None:
        """Say which images could not be read; a few are left out, more end the run."""
        for sample in unread:
            if sample.source not in self.unread:
                self.runner.logger.warning(f'left out: {sample.fault}')
            self.unread[sample.source] = sample.fault
        count, total = len(self.unread), len(self.dataloader.dataset)
        if count > MAX_UNREAD * total:
            faults = '\n'.join(self.unread.values())
            raise DatasetError(
                f'{count} of {total} training images cannot be read, more than '
                f'{MAX_UNREAD:.0%}; mend them or take them out of the annotations:\n{faults}'
            )

    def _set_lr(self) -> None:
        lr = self.stage.lr * self.stage.schedule.factor(self._progress())
        for optimiser in optimisers(self.runner.optim_wrapper):
            for group in optimiser.param_groups:
                group['lr'] = lr * group.get('share', 1.0)

    def _validate_if_due(self) -> None:
        last = self.stage_epoch >= self.stage.epochs or self._progress() >= 1
        if last or self.stage_epoch % self.val_interval == 0:
            self.validation = self.runner.val_loop.run()
            self.stage.after_validation(self.validation)


@LOOPS.register_module()
class LossValLoop(ValLoop):
    """Validation that also reports the training loss, which the plateau watches."""

    @torch.no_grad()
    def run(self) -> dict:
        """Return the evaluator's metrics and `loss`."""
        losses = []
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        for index, batch in enumerate(self.dataloader):
            self.runner.call_hook('before_val_iter', batch_idx=index, data_batch=batch)
            batch, samples = split_unread(batch)  # an unread image is one whose tips are missed
            if batch['data_samples']:
                loss, predicted = unwrap(self.runner.model).validate(batch)
                losses.append(loss)
                samples = predicted + samples
            self.evaluator.process(data_samples=samples, data_batch=batch)
            self.runner.call_hook(
                'after_val_iter', batch_idx=index, data_batch=batch, outputs=samples
            )
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        # Every rank must see the same loss, or their learning rates would part.
        metrics['loss'], batches = _mean_over_ranks(losses)
        if not batches:
            described = self.dataloader.dataset.describe()
            raise DatasetError(f'no image to validate on can be read: {described}')
        if not np.isfinite(metrics['loss']):
            raise FloatingPointError(f'the validation loss became {metrics["loss"]}')
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics


def iteration_seed(seed: int, iteration: int) -> int:
    """Return the seed of what is random inside the model in one iteration."""
    return int(np.random.SeedSequence([seed, iteration]).generate_state(1)[0])


def _agreed(seconds: float) -> float:
    """Return the first rank's time on every rank: all must end a stage at the same step."""
    if get_world_size() == 1:
        return seconds
    clock = torch.tensor([seconds], dtype=torch.float64)
    broadcast(clock)
    return clock.item()


def _mean_over_ranks(values: Sequence[float]) -> tuple[float, int]:
    """Return the mean of all ranks' values, and how many these are."""
    total = torch.tensor([sum(values), len(values)], dtype=torch.float64)
    all_reduce(total)
    return (total[0] / total[1]).item(), int(total[1])
