"""What a training starts from: weights that were trained before, and perhaps a teacher."""

from pathlib import Path

from pipedet.engine import TipRunner
from pipedet.engine.checkpoint import load_grown, load_part
from pipedet.models.answers import forget_calibration
from pipedet.models.detectors import TipNet
from pipedet.models.parts import unwrap
from pipedet.zoo import load_model, weights_of


def begin_with_weights(runner: TipRunner, first_weights: Path | None) -> None:
    """Load what the config's `load_from` names, then what the run that came first has trained."""
    config, model = runner.cfg, unwrap(runner.model)
    if config.get('load_from'):  # a file, or a model that comes with the package
        new = load_grown(weights_of(config.load_from), model)
        forget_calibration(model)
        grown = f'; {len(new)} blocks are new and do nothing yet' if new else ''
        runner.logger.info(f'starts from the weights in {config.load_from}{grown}')
    if first_weights is not None:
        load_part(first_weights, 'generator', model.get_submodule(config.first.part))
        runner.logger.info(f'{config.first.part}: weights of {first_weights}')


def give_teacher(runner: TipRunner) -> None:
    """Let the model of the zoo that the config's `teacher` names teach the one to be trained.

    Raises:
        ValueError: there is no such model, or what is to be trained is no TipNet.
    """
    teacher = runner.cfg.get('teacher')
    if teacher:
        student = unwrap(runner.model)
        if not isinstance(student, TipNet):
            raise ValueError(f'only a TipNet has a teacher, not a {type(student).__name__}')
        device = next(student.parameters()).device.type
        student.learn_from(load_model(teacher.name, device).model, teacher.share)
        runner.logger.info(f'{teacher.name} teaches {teacher.share:.0%} of the heatmap')
