"""pipedet: where a patch-clamp robot's pipette tips are, in micrometres, and how sure that is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipedet.apis import TipLocaliser

__version__ = '0.1.0'


def load(name: str = 'tipnet_s', device: str = 'cpu', **rules: float | None) -> 'TipLocaliser':
    """Return a trained model of the zoo as a function of an image: `load()(image)` -> `Tips`.

    `rules` are `max_tips`, `threshold` and `min_confidence` of `TipLocaliser`.
    """
    from pipedet.zoo import load_model  # imports torch, which takes seconds

    return load_model(name, device, **rules)
