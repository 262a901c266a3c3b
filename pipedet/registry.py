"""The parts bins: a child of each mmengine registry, filled where parts are defined."""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry


def _child(parent: Registry, location: str) -> Registry:
    return Registry(parent.name, parent=parent, scope='pipedet', locations=[location])


MODELS = _child(MMENGINE_MODELS, 'pipedet.models')
DATASETS = _child(MMENGINE_DATASETS, 'pipedet.datasets')
TRANSFORMS = _child(MMENGINE_TRANSFORMS, 'pipedet.datasets')
METRICS = _child(MMENGINE_METRICS, 'pipedet.evaluation')
LOOPS = _child(MMENGINE_LOOPS, 'pipedet.engine')
HOOKS = _child(MMENGINE_HOOKS, 'pipedet.engine')
OPTIM_WRAPPERS = _child(MMENGINE_OPTIM_WRAPPERS, 'pipedet.engine')
OPTIMIZERS = _child(MMENGINE_OPTIMIZERS, 'pipedet.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(MMENGINE_CONSTRUCTORS, 'pipedet.engine')
