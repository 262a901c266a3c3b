"""The scene engine: parameters -> expected photons -> image, in bare torch."""

from pipedet.synthesis.difficulty import contrast_to_noise
from pipedet.synthesis.frozen import FROZEN_SETS, FrozenSetError, frozen_scene
from pipedet.synthesis.recipes import RECIPES, Recipe
from pipedet.synthesis.render import render, render_at
from pipedet.synthesis.scene import Scene, stack
from pipedet.synthesis.sensor import expose, noise_std
from pipedet.synthesis.stream import LabelledScene, draw_scene
