"""mmengine's Runner, with checkpoints that run no code and a wrapper that knows the CPU."""

from pathlib import Path

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner
from torch import nn

from pipedet.engine.checkpoint import latest_checkpoint, load_checkpoint
from pipedet.models.detectors import unwrap


class TipRunner(Runner):
    """Runner whose `resume=True` continues the run in `work_dir`, if there is one."""

    def load_or_resume(self) -> None:
        """Restore model, optimiser and loop from the newest checkpoint.

        mmengine's own would unpickle objects and execute the config text stored in the file.
        """
        if self._has_loaded or not self._resume:
            return
        self._has_loaded = True
        path = latest_checkpoint(Path(self.work_dir))
        if path is None:
            self.logger.info(f'nothing to resume in {self.work_dir}: starting afresh')
            return
        state = load_checkpoint(path)
        unwrap(self.model).load_state_dict(state['model'])
        self.optim_wrapper.load_state_dict(state['optimizer'])
        self.train_loop.load_state_dict(state['loop'])
        self.logger.info(f'resumed from {path}, {self.epoch} epochs done')

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to its device and, in a distributed run, wrap it."""
        # Convolutions on a CPU are faster with the channels innermost.
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        model = model.to(device, memory_format=torch.channels_last)
        if not self.distributed:
            return model
        on_gpu = next(model.parameters()).is_cuda
        return MMDistributedDataParallel(
            module=model,
            device_ids=[torch.cuda.current_device()] if on_gpu else None,
            broadcast_buffers=False,
            # The parts that a stage freezes take no part in the backward pass.
            find_unused_parameters=True,
        )
