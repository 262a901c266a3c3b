"""What happens beside training: checkpoints, and pictures of what an enhancer does."""

import json
from collections.abc import Sequence
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from pipedet.engine.checkpoint import checkpoints, remove_checkpoint, save_checkpoint, sweep
from pipedet.models.parts import unwrap
from pipedet.registry import HOOKS
from pipedet.structures import TipDataSample
from pipedet.visualization import enhancement_grid, write_picture

KEEP = 2
_OF_ONE_START = ('work_dir', 'resume', 'launcher', 'log_level')  # may differ when a run goes on


@HOOKS.register_module()
class SaveCheckpoint(Hook):
    """Save after every epoch and at a stop; keep the last two.

    The older goes once the newer is safely there. A save that fails, on a full disk say, does not
    end the training: it is told at once and again at the end, through `failures`.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.failures: list[str] = []

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Clear what an interrupted save left behind."""
        sweep(Path(runner.work_dir))

    def after_train_epoch(self, runner: Runner) -> None:
        """Save the end of the epoch."""
        self.save(runner)

    @master_only
    def save(self, runner: Runner) -> None:
        """Save `iter_N.pth`, N iterations being done."""
        folder, loop = Path(runner.work_dir), runner.train_loop
        state = dict(
            model=unwrap(runner.model).state_dict(),
            optimizer=runner.optim_wrapper.state_dict(),
            loop=loop.state_dict(),
            hooks={
                type(hook).__name__: hook.state_dict()
                for hook in runner.hooks
                if hasattr(hook, 'state_dict')
            },
            config=config_text(runner),
        )
        path = folder / f'iter_{loop.iter}.pth'
        try:
            save_checkpoint(path, state)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into the latter
            self.failures.append(f'{path} could not be saved: {error}')
            runner.logger.error(f'{self.failures[-1]}. Training goes on; make room on that disk')
            return
        for old in checkpoints(folder)[KEEP:]:
            try:
                remove_checkpoint(old)
            except OSError as error:  # another program reads it: the next save tries again
                runner.logger.warning(f'{old} could not be removed: {error}')


@HOOKS.register_module()
class PictureGrid(Hook):
    """Draw the first validation images of an enhancer after every epoch, `grids/epoch_N.png`.

    Columns: input, output, target, and their difference.
    """

    @master_only
    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[TipDataSample]
    ) -> None:
        """Draw the first batch."""
        shown = [s for s in outputs if 'enhanced' in s][:4]
        if batch_idx == 0 and shown:
            path = Path(runner.work_dir) / 'grids' / f'epoch_{runner.train_loop.epoch:03d}.png'
            triples = [(s.noisy.numpy(), s.enhanced.numpy(), s.clean.numpy()) for s in shown]
            write_picture(path, enhancement_grid(triples))


def config_text(runner: Runner) -> str:
    """Return the run's config as JSON: text to compare, never to execute."""
    config = {k: v for k, v in runner.cfg.to_dict().items() if k not in _OF_ONE_START}
    return json.dumps(config, indent=1, sort_keys=True, default=str)
