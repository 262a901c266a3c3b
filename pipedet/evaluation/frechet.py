"""Frechet distance (Heusel et al. 2017): how far apart a network sees two sets of images."""

import numpy as np
from scipy import linalg


def frechet_distance(features: np.ndarray, others: np.ndarray) -> float:
    """Return the squared 2-Wasserstein distance of the Gaussians fitted to two sets of features.

    Args:
        features: (N, C), one row an image; N should be several times C.
        others: (M, C).
    """
    mean, mean_o = features.mean(axis=0), others.mean(axis=0)
    cov, cov_o = np.cov(features, rowvar=False), np.cov(others, rowvar=False)
    # tr sqrt(A B) from the symmetric sqrt(A) B sqrt(A), whose eigenvalues are real.
    root = linalg.sqrtm(cov).real
    product = linalg.eigvalsh(root @ cov_o @ root).clip(min=0)
    spread = np.trace(cov) + np.trace(cov_o) - 2 * np.sqrt(product).sum()
    return float(((mean - mean_o) ** 2).sum() + spread)
