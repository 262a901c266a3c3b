"""Overlays: what is written on a picture is seen, and nothing else is touched."""

import numpy as np

from pipedet.visualization import draw_tips


def test_a_score_at_the_border_is_written_inside():
    image = np.tile(np.arange(64.0), (64, 1))
    options = dict(true=np.empty((0, 2)), threshold=0.0, caption='', zoom=4)
    nothing = draw_tips(image, predicted=np.empty((0, 2)), scores=np.empty(0), **options)
    for tip in ([20.0, 0.0], [63.0, 0.0], [63.0, 63.0]):
        drawn = draw_tips(image, predicted=np.array([tip]), scores=np.array([0.9]), **options)
        changed = np.argwhere((drawn != nothing).any(axis=-1))[:, ::-1] / 4  # (x, y)
        assert np.abs(changed - tip).max() < 16 and len(changed) > 30
