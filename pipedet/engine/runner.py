"""mmengine's Runner, with checkpoints that run no code and a wrapper that knows the CPU."""

import difflib
import itertools
import sys
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from pipedet.datasets.base import begin_worker
from pipedet.engine.average import WeightAverage
from pipedet.engine.checkpoint import forget_result, load_newest
from pipedet.engine.hooks import config_text
from pipedet.models.parts import unwrap

_RUNNING = ('running_mean', 'running_var')  # of BatchNorm
# A forked process on a Mac may hang in what its system's libraries had begun; Windows cannot fork.
START_METHOD = 'spawn' if sys.platform == 'darwin' else 'fork'


class TipRunner(Runner):
    """Runner whose `resume=True` continues the run in `work_dir`, if there is one."""

    _numbers = itertools.count()

    def __init__(self, *args, work_dir: str, **kwargs) -> None:
        # mmengine hands a runner the logger, message hub and visualizer of another one of the same
        # name, and names runners by the second: two built within one would log into one folder.
        kwargs['experiment_name'] = f'{Path(work_dir).name}_{next(self._numbers)}'
        super().__init__(*args, work_dir=work_dir, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up processes as mmengine does, started as this system can bear it."""
        own = dict(mp_start_method=START_METHOD) | env_cfg.get('mp_cfg', {})
        super().setup_env(dict(env_cfg, mp_cfg=own))

    def _log_env(self, env_cfg: dict) -> None:
        """Log nothing: mmengine would look for a C compiler, and fails on Windows without one."""

    @staticmethod
    def build_dataloader(dataloader: dict | DataLoader, *args, **kwargs) -> DataLoader:
        """Build a data loader as mmengine does; its workers leave Ctrl-C to the main process."""
        built = Runner.build_dataloader(dataloader, *args, **kwargs)
        built.worker_init_fn = partial(begin_worker, then=built.worker_init_fn)
        return built

    def load_or_resume(self) -> None:
        """Restore model, optimiser and loop from the newest checkpoint that is whole.

        mmengine's own would unpickle objects and execute the config text stored in the file.
        """
        if self._has_loaded or not self._resume:
            return
        self._has_loaded = True
        newest = load_newest(Path(self.work_dir), self.logger.warning)
        if newest is None:
            self.logger.info(f'nothing to resume in {self.work_dir}: starting afresh')
            return
        path, state = newest
        self._compare_config(path, state['config'])
        unwrap(self.model).load_state_dict(state['model'])
        self.optim_wrapper.load_state_dict(state['optimizer'])
        self.train_loop.load_state_dict(state['loop'])
        for hook in self.hooks:
            if hasattr(hook, 'load_state_dict'):
                name = type(hook).__name__
                if name not in state['hooks']:
                    raise RuntimeError(f'{path} is of a run without {name}: resume it without too')
                hook.load_state_dict(state['hooks'][name])
        if is_main_process():  # not before: until here the result was all that is proven whole
            forget_result(Path(self.work_dir))
        self.logger.info(f'resumed from {path}, {self.iter} iterations done')

    def _compare_config(self, path: Path, saved: str) -> None:
        """Say where the run goes on with another config than it began with."""
        lines = difflib.unified_diff(
            saved.splitlines(), config_text(self).splitlines(), lineterm='', n=0
        )
        changes = [line for line in lines if line[0] in '+-' and line[:3] not in ('+++', '---')]
        if changes:
            self.logger.warning(
                f'{path} was written under another config; this run goes on with the lines at +:\n'
                + '\n'.join(changes[:20])
            )

    def average_statistics(self) -> None:
        """Give every rank the mean over all ranks of BatchNorm's running statistics.

        So what is validated and tested is what the first rank saves. Not the first rank's own: the
        mean knows every image, and as it is linear, a stop in between changes nothing. All other
        buffers stay each rank's own.
        """
        if get_world_size() == 1:
            return
        held = [unwrap(self.model).state_dict()]
        held += [hook.weights for hook in self.hooks if isinstance(hook, WeightAverage)]
        for weights in held:
            for name, value in weights.items():
                if name.endswith(_RUNNING):
                    all_reduce(value, op='mean')

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to its device and, in a distributed run, wrap it."""
        # Convolutions on a CPU are faster with the channels innermost.
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        model = model.to(device, memory_format=torch.channels_last)
        # Optimisers that take turns average their gradients themselves (`players`).
        if not self.distributed or hasattr(model, 'players'):
            return model
        on_gpu = next(model.parameters()).is_cuda
        return MMDistributedDataParallel(
            module=model,
            device_ids=[torch.cuda.current_device()] if on_gpu else None,
            broadcast_buffers=False,  # `average_statistics` does it, once an epoch
            # The parts that a stage freezes take no part in the backward pass.
            find_unused_parameters=True,
        )
