"""Images with a target: a scene noisy and clean, or two domains whose images belong to no pairs."""

from dataclasses import replace

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils.data import Dataset

from pipedet.datasets.synthetic import SyntheticPipettes, describe_scene
from pipedet.models.preprocessor import normalise, to_unit
from pipedet.registry import DATASETS, TRANSFORMS
from pipedet.structures import META_KEYS, TipDataSample
from pipedet.synthesis import LabelledScene, Scene, render
from pipedet.synthesis.backgrounds import SIZE
from pipedet.synthesis.sensor import detector_blur


@DATASETS.register_module()
class ScenePairs(SyntheticPipettes):
    """Scenes as a microscope shows them, each with `clean`: the same pipettes in a clear bath.

    Arguments are those of `SyntheticPipettes`; a kept pair takes 0.4 MB.
    """

    def results_of(self, drawn: LabelledScene, recipe: str, index: int) -> dict:
        """Add the clean image."""
        return super().results_of(drawn, recipe, index) | dict(clean=clean_image(drawn.scene))


@DATASETS.register_module()
class ClearScenes(SyntheticPipettes):
    """Clean images alone: a domain that looks like pipettes in a clear bath.

    Arguments are those of `SyntheticPipettes`.
    """

    def results_of(self, drawn: LabelledScene, recipe: str, index: int) -> dict:
        """Put the clean image in the place of the exposed one."""
        return describe_scene(drawn, clean_image(drawn.scene), recipe, index)


def clean_image(scene: Scene) -> np.ndarray:
    """Return the expected image of a scene (a batch of 1) without its clutter, (H, W) float32.

    Uneven illumination stays; cells, specks, vessels, dye and texture go, and so does all noise.
    """
    empty = {
        name: replace(part, amplitude=torch.zeros_like(part.amplitude))
        for name in ('tissue', 'shadows', 'plume', 'texture')
        for part in [getattr(scene, name)]
    }
    brightness = render(replace(scene, **empty), (SIZE, SIZE))
    return detector_blur(brightness, scene.sensor.spread)[0].numpy()


@DATASETS.register_module()
class UnpairedDomains(Dataset):
    """Images of one domain, each beside a random one of another (paper III.A).

    Args:
        source: config of the dataset to be translated; its length is that of this one.
        target: config of the dataset that shows what the result should look like.
    """

    metainfo: dict = {}  # mmengine's loops warn about a dataset that has none

    def __init__(self, *, source: dict, target: dict) -> None:
        self.source, self.target = DATASETS.build(source), DATASETS.build(target)

    def set_epoch(self, epoch: int) -> None:
        """Tell both domains the epoch."""
        self.source.set_epoch(epoch)
        self.target.set_epoch(epoch)

    def prepare(self) -> None:
        """Draw the scenes that either domain keeps."""
        for domain in (self.source, self.target):
            if hasattr(domain, 'prepare'):
                domain.prepare()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict:
        """Return `inputs` and `targets`, (1, H, W) each, and the sample of the source."""
        sample = self.source[index]
        rng = np.random.default_rng([self.source.seed, self.source.epoch, index, len(self.target)])
        other = self.target[int(rng.integers(len(self.target)))]
        if other['inputs'] is None:  # then there is nothing to train on either
            sample = dict(inputs=None, data_samples=other['data_samples'])
        return sample | dict(targets=other['inputs'])

    def images(self) -> list[dict]:
        """Return the images of both domains, see `TipDataset`."""
        return self.source.images() + self.target.images()

    def describe(self) -> str:
        """One line for the log."""
        return f'from: {self.source.describe()}; to: {self.target.describe()}'


@TRANSFORMS.register_module()
class ToUnit(BaseTransform):
    """Map `image`, and `clean` where there is one, to [0, 1], each by its own percentiles.

    Whole images, before any crop: a crop is enhanced as a part of its image.
    """

    def transform(self, results: dict) -> dict:
        """Replace both."""
        for key in ('image', 'clean'):
            if key in results:
                image = torch.from_numpy(results[key].astype(np.float32))[None, None]
                results[key] = to_unit(normalise(image))[0, 0].numpy()
        return results


@TRANSFORMS.register_module()
class CropAtTip(BaseTransform):
    """Cut a square round a random tip, or round a random place of an image without tips.

    Beyond the border the last pixels go on (paper III.A: 80x80, padded).

    Args:
        size: its side, pixels.
        jitter: largest distance of the tip from the middle along x and y, pixels.
    """

    def __init__(self, *, size: int, jitter: int) -> None:
        self.size = size
        self.jitter = jitter

    def transform(self, results: dict) -> dict:
        """Cut `image` and `clean`; tips outside the square are dropped."""
        rng, (height, width) = results['rng'], results['image'].shape
        tips = results['tips'] if len(results['tips']) else rng.uniform(0, (width, height), (1, 2))
        x, y = tips[rng.integers(len(tips))] + rng.integers(-self.jitter, self.jitter + 1, 2)
        left, top = round(float(x)) - self.size // 2, round(float(y)) - self.size // 2
        rows = np.clip(np.arange(top, top + self.size), 0, height - 1)
        columns = np.clip(np.arange(left, left + self.size), 0, width - 1)
        for key in ('image', 'clean'):
            if key in results:
                results[key] = results[key][np.ix_(rows, columns)]
        shift = np.eye(3)
        shift[:2, 2] = -left, -top
        results['matrix'] = shift @ results['matrix']
        moved = results['tips'] - np.float32((left, top))
        inside = ((moved >= 0) & (moved <= self.size - 1)).all(axis=1)
        results['tips'] = moved[inside]
        results['tip_fields'] = {k: np.asarray(v)[inside] for k, v in results['tip_fields'].items()}
        results['img_shape'] = (self.size, self.size)
        return results


@TRANSFORMS.register_module()
class PackPair(BaseTransform):
    """Pack `inputs` and `targets`, (1, H, W) float32 each, and `data_samples` with its tips."""

    def transform(self, results: dict) -> dict:
        """Leave everything else behind."""
        sample = TipDataSample(metainfo={key: results[key] for key in META_KEYS})
        sample.gt_tips = InstanceData(points=torch.from_numpy(np.float32(results['tips'])))
        images = (_with_channel(results[key]) for key in ('image', 'clean'))
        return dict(zip(('inputs', 'targets'), images, strict=True), data_samples=sample)


def _with_channel(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]  # (1, H, W)
