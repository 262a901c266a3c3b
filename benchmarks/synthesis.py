"""How fast scenes are made: images per second on one CPU core, and on a GPU when there is one.

python benchmarks/synthesis.py
"""

import datetime
import json
import time
from pathlib import Path

import numpy as np
import torch

from pipedet.commands.common import device_name
from pipedet.synthesis import draw_scene, expose, render, stack
from pipedet.synthesis.stream import SCENES_PER_SESSION

SEED, COUNT, BATCH = 77, 200, 64
RESULTS = Path(__file__).parent / 'results' / 'synthesis.json'


def time_cpu(recipe: str) -> dict[str, float]:
    """Milliseconds per image of each step, one scene at a time on one thread (median)."""
    steps = dict(draw=[], render=[], expose=[])
    for index in range(COUNT):
        marks = [time.perf_counter()]
        drawn = draw_scene(recipe, seed=SEED, epoch=0, index=index * SCENES_PER_SESSION)
        marks.append(time.perf_counter())
        brightness = render(drawn.scene)
        marks.append(time.perf_counter())
        expose(drawn.scene, brightness, torch.Generator().manual_seed(index))
        marks.append(time.perf_counter())
        for name, elapsed in zip(steps, np.diff(marks), strict=True):
            steps[name].append(1e3 * elapsed)
    result = {f'{name}_ms': float(np.median(times)) for name, times in steps.items()}
    total = np.sum([times for times in steps.values()], axis=0)
    return result | dict(images_per_s=float(1e3 / total.mean()), images=COUNT)


def time_gpu(recipe: str) -> dict[str, float]:
    """Images per second of rendering and exposing batches of scenes that were drawn before."""
    scene = stack([draw_scene(recipe, seed=SEED, epoch=0, index=i).scene for i in range(BATCH)])
    scene = scene.to('cuda')
    generator = torch.Generator('cuda').manual_seed(0)
    for repeat in range(12):
        if repeat == 2:  # two warm-ups
            started = time.perf_counter()
        expose(scene, render(scene), generator)
        torch.cuda.synchronize()
    return dict(images_per_s=10 * BATCH / (time.perf_counter() - started), batch=BATCH)


if __name__ == '__main__':
    torch.set_num_threads(1)
    recipes = ('standard', 'brightfield', 'diffraction', 'slice')
    result = dict(
        device=device_name('cpu'),
        date=datetime.date.today().isoformat(),
        torch=torch.__version__,
        seed=SEED,
        cpu_one_core={recipe: time_cpu(recipe) for recipe in recipes},
    )
    if torch.cuda.is_available():
        result['gpu'] = {recipe: time_gpu(recipe) for recipe in recipes}
        result['gpu']['device'] = device_name('cuda')
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(result, indent=1))
