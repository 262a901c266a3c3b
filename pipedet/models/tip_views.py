"""TipNet's maps, averaged over the eight turns and mirrors of an image.

Unlike a heatmap's, their values turn with the image: places and directions as vectors, inverse
covariances as matrices.
"""

from torch import Tensor

from pipedet.models.symmetry import (
    mean_of_matrix_views,
    mean_of_vector_views,
    mean_of_views,
)
from pipedet.models.tip_head import DIRECTION, PLACE, SPREAD, precision, spread_of


def mean_of_tip_views(maps: Tensor) -> Tensor:
    """Return the mean (B, 9, n, n) of the maps (8 B, 9, n, n) of `square_views`."""
    mean = mean_of_views(maps)
    for vectors in (PLACE, DIRECTION):
        mean[:, vectors] = mean_of_vector_views(maps[:, vectors])
    matrices = precision(maps[:, SPREAD].movedim(1, -1)).movedim(-1, 1)
    mean[:, SPREAD] = spread_of(mean_of_matrix_views(matrices).movedim(1, -1)).movedim(-1, 1)
    return mean
