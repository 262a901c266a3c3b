"""An endless, addressable stream: the scene at (recipe, seed, epoch, index) is always the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from pipedet.synthesis.backgrounds import SIZE
from pipedet.synthesis.difficulty import contrast_to_noise
from pipedet.synthesis.recipes import RECIPES
from pipedet.synthesis.render import render, render_at
from pipedet.synthesis.sample import MARGIN, Session, sample_scene, sample_session
from pipedet.synthesis.scene import Scene
from pipedet.synthesis.sensor import expose

SCENES_PER_SESSION = 8
_SESSION, _SCENE, _NOISE, _COUNT, _BACKGROUND = range(5)  # last word of each kind of seed


@dataclass
class LabelledScene:
    """A scene (batch of 1) and where it comes from.

    Its pipettes with the tip outside the frame are there but have no label.
    """

    scene: Scene
    session: str
    address: tuple[int, ...]

    @property
    def labelled(self) -> torch.Tensor:
        """Which of the K pipettes carry a label, (K,) bool."""
        tips = self.scene.pipettes.tip[0]
        return ((tips >= MARGIN) & (tips <= SIZE - 1 - MARGIN)).all(dim=1)

    @property
    def tips(self) -> torch.Tensor:
        """The labelled tips, (N, 2) pixels."""
        return self.scene.pipettes.tip[0, self.labelled]

    @cached_property
    def cnr(self) -> torch.Tensor:
        """Contrast-to-noise ratio of the labelled tips, (N,)."""
        return contrast_to_noise(self.scene)[0, self.labelled]

    def at(self, seconds: float) -> 'LabelledScene':
        """Return the same scene at another time; a tip may have entered or left the frame."""
        return replace(self, scene=self.scene.at(seconds))

    def capture(self, frame: int = 0, light: Callable[..., torch.Tensor] = render_at) -> np.ndarray:
        """Return the image, (H, W) uint8 or uint16; every frame has noise of its own.

        Args:
            frame: which exposure.
            light: what gives the expected brightness, of a scene, rows and columns.
        """
        seed = np.random.SeedSequence([*self.address, frame, _NOISE]).generate_state(1)[0]
        noise = torch.Generator().manual_seed(int(seed))
        axis = torch.arange(SIZE, dtype=torch.float32)[None]
        return expose(self.scene, light(self.scene, axis, axis), noise)[0]


def draw_scene(recipe: str, *, seed: int, epoch: int, index: int) -> LabelledScene:
    """Return scene `index` of an epoch; eight neighbours share a session.

    A recipe with a `min_cnr` is drawn, sessions and all, until every labelled tip reaches it; the
    number of tips is drawn first, so that rejection cannot favour scenes with few.
    """
    if recipe not in RECIPES:
        raise ValueError(f'no recipe named {recipe!r}; there are {", ".join(RECIPES)}')
    rules = RECIPES[recipe]
    count_rng = np.random.default_rng([seed, epoch, index, _COUNT])
    count = int(count_rng.choice(len(rules.counts), p=rules.counts))
    for attempt in range(1000):
        address = (seed, epoch, index, attempt)
        scene_rng = np.random.default_rng([*address, _SCENE])
        name, session = _session(recipe, address)
        drawn = LabelledScene(sample_scene(scene_rng, session, rules, count), name, address)
        if rules.min_cnr == 0 or count == 0 or drawn.cnr.min() >= rules.min_cnr:
            return drawn
    raise RuntimeError(f'recipe {recipe!r}: no scene with every tip at CNR {rules.min_cnr} in 1000')


def backgrounds_of_session(drawn: LabelledScene, count: int) -> Iterator[torch.Tensor]:
    """Yield the expected brightness (H, W) of `count` other places in the tissue of a session.

    There are no pipettes in them, and dye lies anywhere, not between tips.
    """
    recipe = drawn.session.partition('/')[0]
    _, session = _session(recipe, drawn.address)
    for place in range(count):
        rng = np.random.default_rng([*drawn.address, place, _BACKGROUND])
        yield render(sample_scene(rng, session, RECIPES[recipe], 0).bare())[0]


def _session(recipe: str, address: tuple[int, ...]) -> tuple[str, Session]:
    """Return the name of a scene's session, recipe first, and what it shares."""
    seed, epoch, index, attempt = address
    group = index // SCENES_PER_SESSION
    rng = np.random.default_rng([seed, epoch, group, attempt, _SESSION])
    return f'{recipe}/{seed}/{epoch}/{group}/{attempt}', sample_session(rng, RECIPES[recipe])
