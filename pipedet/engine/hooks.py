"""What happens beside training: checkpoints, and a stop at the first bad number."""

import math
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from pipedet.engine.checkpoint import save_checkpoint
from pipedet.models.detectors import unwrap
from pipedet.registry import HOOKS

KEEP = 2


@HOOKS.register_module()
class SaveCheckpoint(Hook):
    """Save after every epoch, keep the last two; the older goes once the newer is safely there."""

    priority = 'VERY_LOW'

    @master_only
    def after_train_epoch(self, runner) -> None:
        """Save `epoch_N.pth`, N epochs being done."""
        folder = Path(runner.work_dir)
        loop = runner.train_loop
        save_checkpoint(
            folder / f'epoch_{loop.epoch}.pth',
            dict(
                model=unwrap(runner.model).state_dict(),
                optimizer=runner.optim_wrapper.state_dict(),
                loop=loop.state_dict(),
            ),
        )
        for old in folder.glob('epoch_*.pth'):
            if int(old.stem.split('_')[1]) <= loop.epoch - KEEP:
                old.unlink()


@HOOKS.register_module()
class StopAtBadLoss(Hook):
    """Stop at the first loss that is not finite, and name the samples it came from."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Check the total loss."""
        loss = outputs['loss'].item()
        if not math.isfinite(loss):
            sources = [sample.source for sample in data_batch['data_samples']]
            raise FloatingPointError(
                f'the loss became {loss} in iteration {runner.iter} on {sources}; '
                'nothing of it was saved. Lower the learning rate, or look at these samples'
            )
