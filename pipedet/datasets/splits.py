"""Train, val and test sets of whole groups, so that no recording session is in two of them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipedet.formats.digest import sha256_of

SPLITS = ('train', 'val', 'test')


def split_groups(groups: Sequence[str], fractions: Sequence[float], seed: int) -> list[str]:
    """Name the split, train, val or test, of every item; items of one group go together.

    Groups come largest first, equal ones in random order, each to the split furthest below its
    share. So a few groups still reach every split, and many approach the fractions of the items.
    Depends on the seed and on the groups, not on the order of the items.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f'fractions are {fractions}; give three that sum to 1, for {SPLITS}')
    sizes = Counter(groups)
    share = np.array(fractions, float)
    filled = np.zeros(len(SPLITS))
    split_of = {}
    order = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    for group in sorted(order, key=sizes.get, reverse=True):
        level = np.divide(filled, share, out=np.full(len(SPLITS), np.inf), where=share > 0)
        chosen = int(np.argmin(level))
        filled[chosen] += sizes[group]
        split_of[group] = SPLITS[chosen]
    return [split_of[group] for group in groups]


def make_folds(groups: Sequence[str], tipped: Sequence[bool], count: int | None) -> list[int]:
    """Number the fold of every image: groups stay whole, folds are of about equal size.

    Groups come largest first, each to the smallest fold. Those without a tip come last: each fold
    has one with tips, or there would be no accuracy to measure. So there are as many folds as
    groups with tips, or `count`.
    """
    sizes = Counter(groups)
    with_tips = {group for group, has_tips in zip(groups, tipped, strict=True) if has_tips}
    filled = np.zeros(len(with_tips) if count is None else max(0, count))
    if not 2 <= len(filled) <= len(with_tips):
        raise ValueError(
            f'{len(filled)} folds of {len(with_tips)} groups with tips: label more sessions, give '
            'other --folds, or --leave-out image'
        )
    fold_of = {}
    for group in sorted(sizes, key=lambda name: (name not in with_tips, -sizes[name], name)):
        fold_of[group] = int(filled.argmin())
        filled[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]


def find_leaks(groups: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Return the groups found in more than one split."""
    seen = Counter(group for group, _ in set(zip(groups, splits, strict=True)))
    return sorted(group for group, count in seen.items() if count > 1)


def name_copies(folder: Path, names: Sequence[str]) -> list[str]:
    """Name each file with all that hold the same bytes, 'a.png = b.png'; most stand alone."""
    sizes = defaultdict(set)
    for name in set(names):
        sizes[(folder / name).stat().st_size].add(name)
    contents = defaultdict(list)
    for size, own in sizes.items():
        for name in sorted(own):  # only files of one size can be equal, the rest are not read
            content = sha256_of(folder / name) if len(own) > 1 else name
            contents[size, content].append(name)
    title = {name: ' = '.join(own) for own in contents.values() for name in own}
    return [title[name] for name in names]
