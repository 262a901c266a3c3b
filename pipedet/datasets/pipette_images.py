"""Real images with tip annotations: everything checked at construction, every fault named."""

import logging
import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from pipedet.datasets.base import TipDataset
from pipedet.datasets.splits import SPLITS, find_leaks, name_copies, split_groups
from pipedet.formats import (
    IMAGE_SUFFIXES,
    AnnotationError,
    ImageReadError,
    ImageRecord,
    check_records,
    read_annotations,
    read_image,
)
from pipedet.formats.plausibility import find_misreadings
from pipedet.formats.scale import PixelSize
from pipedet.formats.schema import check_pixel_size
from pipedet.registry import DATASETS

ASKED = 64  # images that are looked at before training, for whether the labels fit them


class DatasetError(ValueError):
    """A dataset that cannot be used as it is: one message with every fault found."""


@DATASETS.register_module()
class PipetteImages(TipDataset):
    """A folder of images and one annotation file, COCO keypoints or a tip table.

    Images that the annotation file does not mention are negatives, images without tips. The pages
    of a stack are images of their own, and of a mentioned stack only those mentioned count. One
    of them whose name only resembles a mentioned one that is missing always raises `DatasetError`,
    and so does a file of which no label is left.

    Args:
        root: the dataset's folder; nothing outside it is read.
        annotations: annotation file, in `root` or absolute.
        pipeline: transforms, as configs.
        seed: first word of every sample's generator.
        subset: the name in reports.
        image_folder: where images are, in `root`; file names are relative to it, or else to `root`.
            None: in `images` where there is such a folder, otherwise in `root` itself.
        unlisted_are_negative: whether to take images that the annotation file does not mention.
        pixel_size_um: pixel size, or its (x, y); wins over the annotation file's, which wins over
            the image file's. None known by all three: the image has no scale.
        groups: only these sessions, or with `split_by` image only these images, named 'a.tif#2'
            for frame 2 of it; None for all. The splits are then made within them.
        strict: whether a fault raises `DatasetError`, one of pixels when they are read; otherwise
            its image is left out, and the fault is logged and kept in `skipped`.
        split: train, val or test; None for everything.
        fractions: share of the three splits.
        split_by: session, or image, as the authors' script splits, which lets sessions leak.
        split_seed: apart from `seed`, because the splits' datasets must agree on it.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        annotations: str,
        pipeline: Sequence[dict],
        seed: int,
        subset: str,
        image_folder: str | None = None,
        unlisted_are_negative: bool = True,
        pixel_size_um: float | Sequence[float] | None = None,
        groups: Sequence[str] | None = None,
        strict: bool = False,
        split: str | None = None,
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        split_by: str = 'session',
        split_seed: int = 0,
    ) -> None:
        super().__init__(pipeline=pipeline, seed=seed)
        if split not in (None, *SPLITS) or split_by not in ('session', 'image'):
            raise DatasetError(
                f'split={split!r} of {SPLITS}, split_by={split_by!r} of session, image'
            )
        self.subset, self.strict = subset, strict
        self.root = Path(root).resolve()
        if image_folder is None:
            # By its own spelling: a Mac takes `images` for `Images`, but tells their files apart.
            folders = {path.name for path in self.root.glob('*') if path.is_dir()}
            image_folder = 'images' if 'images' in folders else ''
        self.folder = self.root / image_folder
        if not self.folder.resolve().is_relative_to(self.root) or not self.folder.is_dir():
            raise DatasetError(f'{self.folder}: not a folder in the root; check the path')
        if pixel_size_um is not None:
            pixel_size_um = check_pixel_size(pixel_size_um, 'PipetteImages')

        self._read_records(annotations, unlisted_are_negative, pixel_size_um)
        if groups is not None:
            self._keep_groups(groups, split_by)
        if split is not None:
            self._keep_split(split, fractions, split_by, split_seed)
        if not self.records:
            raise DatasetError(f'{subset}: no image is left; faults:\n' + '\n'.join(self.skipped))
        self._ask_the_images(strict)
        print_log(self.describe(), logger='current')

    def _read_records(
        self, annotations: str, unlisted_are_negative: bool, pixel_size_um: PixelSize | None
    ) -> None:
        """Set `records` to the sound images, and `skipped` to the faults of the others."""
        problems: list[AnnotationError] = []
        records = self._place_names(read_annotations(self.root / annotations, problems), problems)
        had_labels = any(len(record.tips) for record in records) or (problems and not records)
        misnamed: list[AnnotationError] = []
        if unlisted_are_negative:
            listed = {r.file_name for r in records} | {p.file_name for p in problems}
            records += self._find_unlisted(listed - {None}, misnamed)
        for record in records:
            record.pixel_size_um = pixel_size_um or record.pixel_size_um
        self.records = check_records(self.folder, records, problems, root=self.root)
        problems += misnamed
        for record in self.records:
            # An image of unknown session is one of its own: all pages of a stack together.
            record.session = record.session or record.file_name
        self.skipped = [str(problem) for problem in problems]
        # Every label lost is a mistake of principle, and what is left would all be negatives.
        lost = had_labels and not any(len(record.tips) for record in self.records)
        if misnamed or lost or (self.skipped and self.strict):
            raise DatasetError(f'{len(self.skipped)} faults:\n' + '\n'.join(self.skipped))
        if self.skipped:
            message = f'{self.subset}: left out for {len(self.skipped)} faults:\n'
            print_log(message + '\n'.join(self.skipped), logger='current', level=logging.WARNING)

    def _ask_the_images(self, strict: bool) -> None:
        """Say where the tips seem not to be pixels (x, y) of their images."""
        labelled = [i for i, record in enumerate(self.records) if len(record.tips)]
        asked = labelled[:: len(labelled) // ASKED + 1]
        samples = (self.load(i, np.random.default_rng(0)) for i in asked)
        doubts = find_misreadings(
            (s['image'], s['tips'], s['pixel_size_um'])
            for s in samples
            if not isinstance(s['image'], ImageReadError)
        )
        for doubt in doubts:
            if strict:
                raise DatasetError(f'{self.subset}: {doubt}')
            print_log(f'{self.subset}: {doubt}', logger='current', level=logging.WARNING)

    def _place_names(
        self, records: list[ImageRecord], problems: list[AnnotationError]
    ) -> list[ImageRecord]:
        """Make names relative to the image folder; a file named in two ways is a fault."""
        written = defaultdict(set)
        for entry in [*records, *problems]:
            if entry.file_name is not None:
                place = self._place_name(entry.file_name)
                written[place].add(entry.file_name)
                entry.file_name = place
        sound = [record for record in records if len(written[record.file_name]) == 1]
        for record in records:
            names = sorted(written[record.file_name])
            if len(names) > 1:  # each name may have only some of the tips
                reason = f'{names} are one file; write the same name in all its rows'
                problems.append(AnnotationError(record.where, reason, record.file_name))
        return sound

    def _place_name(self, name: str) -> str:
        """Return the name from the image folder of a file named from there or from the root."""
        # isfile, as Path.is_file raises for names too long.
        if os.path.isfile(self.folder / name):
            return name
        if os.path.isfile(self.root / name):
            return Path(os.path.relpath(self.root / name, self.folder)).as_posix()
        folder = self.folder.relative_to(self.root).as_posix() + '/'
        in_folder = name[: len(folder)].casefold() == folder.casefold()
        return name[len(folder) :] if in_folder else name

    def _find_unlisted(
        self, listed: set[str], misnamed: list[AnnotationError]
    ) -> list[ImageRecord]:
        """Return the images that no row names; those that a row may mean are faults instead."""
        paths = sorted(p for p in self.folder.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        missing = sorted(listed - set(names))
        meant = {_core(own): name for name in missing for own in (name, os.path.splitext(name)[0])}
        unlisted = []
        for name, path in zip(names, paths, strict=True):
            if name in listed or path.name.startswith('.'):
                continue
            other = meant.get(_core(os.path.splitext(name)[0]))
            if other is None:
                unlisted.append(ImageRecord(file_name=name, where=str(path)))
            else:
                reason = (
                    f'no row names {name!r}, but one names {other!r}, which is not there and '
                    'differs only in letter case, accents or extension; make the names equal'
                )
                misnamed.append(AnnotationError(path, reason, name))
        return unlisted

    def group_names(self, split_by: str) -> list[str]:
        """Name the group of every image: its session, or the image itself."""
        if split_by == 'session':
            return [record.session for record in self.records]
        return [f'{record.file_name}#{record.frame or 0}' for record in self.records]

    def _keep_groups(self, groups: Sequence[str], split_by: str) -> None:
        names, groups = self.group_names(split_by), set(groups)
        unknown = sorted(groups - set(names))
        if unknown:
            raise DatasetError(
                f'{self.subset}: no {split_by} is named {unknown}, or all its images are faulty; '
                f'there are {sorted(set(names))}'
            )
        self.records = [r for r, name in zip(self.records, names, strict=True) if name in groups]

    def _keep_split(
        self, split: str, fractions: Sequence[float], split_by: str, split_seed: int
    ) -> None:
        sessions = [record.session for record in self.records]
        groups = self.group_names(split_by)
        splits = split_groups(groups, fractions, split_seed)
        files = [record.file_name for record in self.records]
        copies = name_copies(self.folder, files)
        leaks = sorted({*find_leaks(sessions, splits), *find_leaks(copies, splits)})
        if leaks:
            message = f'{self.subset}: sessions or files in more than one split: {leaks}'
            if split_by == 'session':
                raise DatasetError(message + '; give all frames and copies of a file one session')
            print_log(message, logger='current', level=logging.WARNING)
        if splits and split not in splits:
            raise DatasetError(
                f'{self.subset}: no image is left for it, of {len(set(groups))} {split_by}s shared '
                f'out as {tuple(fractions)} to {SPLITS}: label more of them (a stack without a '
                'session is one), or take `pipedet crossval`'
            )
        self.records = [r for r, name in zip(self.records, splits, strict=True) if name == split]

    def describe(self) -> str:
        """Say in one line what is in the dataset."""
        tips = [len(record.tips) for record in self.records]
        return (
            f'{self.subset}: {len(tips)} images, {sum(tips)} tips, {tips.count(0)} negatives, '
            f'{len({record.session for record in self.records})} sessions, '
            f'{sum(r.pixel_size_um is None for r in self.records)} without a scale, '
            f'{len(self.skipped)} skipped'
        )

    def images(self) -> list[dict]:
        """Return what says which images these are, see `TipDataset`."""
        return [
            dict(image=self._source(record), frame=record.frame or 0, session=record.session)
            for record in self.records
        ]

    def _source(self, record: ImageRecord) -> str:
        path = os.path.normpath(self.folder / record.file_name)
        return Path(path).relative_to(self.root).as_posix()

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int, rng: np.random.Generator) -> dict:
        """Read one image; of one that fails to decode, the fault stands in its place."""
        record = self.records[index]
        path = self.folder / record.file_name
        try:
            image = read_image(path, record.frame)
        except ImageReadError as error:
            if self.strict:
                raise DatasetError(str(error)) from error  # of one argument: it leaves a worker
            image = error
        known = {} if record.z_um is None else {'z_um': record.z_um}
        return dict(
            image=image,
            tips=record.tips.copy(),
            tip_fields={
                key: np.full(len(record.tips), value, np.float32) for key, value in known.items()
            },
            source=self._source(record),
            frame=record.frame or 0,
            session=record.session,
            subset=self.subset,
            pixel_size_um=record.pixel_size_um,
        )


def _core(name: str) -> str:
    """Return the name as file systems that know no case, or spell accents otherwise, see it."""
    return unicodedata.normalize('NFC', name).casefold()
