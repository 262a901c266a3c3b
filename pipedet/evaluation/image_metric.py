"""EnhancementMetric: how near an enhancer's images come to the clean ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor

from pipedet.models.image_losses import correlation, ssim
from pipedet.registry import METRICS
from pipedet.visualization import enhancement_grid, write_picture

PICTURES = 6


@METRICS.register_module()
class EnhancementMetric(BaseMetric):
    """SSIM, PCC and MSE against the clean image, of the input and of the output.

    Samples are `TipDataSample.to_dict()` with `noisy`, `enhanced` and `clean`, (H, W) in [0, 1]; an
    image that could not be read has none and is counted.
    """

    default_prefix = ''  # the keys carry their own
    pictures: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]] = ()
    measured: dict[str, float] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Measure one batch."""
        for sample in data_samples:
            if 'enhanced' not in sample:
                self.results.append(None)
                continue
            noisy, enhanced, clean = (sample[key] for key in ('noisy', 'enhanced', 'clean'))
            before, after = _measure(noisy, clean), _measure(enhanced, clean)
            picture = None
            if len(self.results) < PICTURES:
                picture = tuple(image.numpy() for image in (noisy, enhanced, clean))
            self.results.append((before, after, picture))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over the images of all ranks."""
        read = [result for result in results if result is not None]
        self.pictures = [r[2] for r in read if r[2] is not None][:PICTURES]
        means = {'image/unread': float(len(results) - len(read))}
        for name in read[0][0] if read else ():
            means[f'image/{name}_before'] = float(np.mean([r[0][name] for r in read]))
            means[f'image/{name}'] = float(np.mean([r[1][name] for r in read]))
        self.measured = means
        return means

    def write(self, folder: Path, title: str, context: dict[str, Any], dataset: Any) -> str:
        """Write report.md, metrics.json and pictures.png into `folder`; return the report."""
        m = self.measured
        lines = [f'# {title}', '', *(f'- {key}: {value}' for key, value in context.items()), '']
        lines += ['| against the clean image | input | output |', '|---|---|---|']
        lines += [
            f'| {name.upper()} | {m[f"image/{name}_before"]:.4f} | {m[f"image/{name}"]:.4f} |'
            for name in ('ssim', 'pcc', 'mse')
            if f'image/{name}' in m
        ]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'report.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')
        content = dict(title=title, context=context, **m)
        (folder / 'metrics.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        if self.pictures:
            write_picture(folder / 'pictures.png', enhancement_grid(self.pictures))
        return '\n'.join(lines)


def _measure(image: Tensor, clean: Tensor) -> dict[str, float]:
    image, clean = image[None, None], clean[None, None]
    return dict(
        ssim=ssim(image, clean).item(),
        pcc=correlation(image, clean).item(),
        mse=(image - clean).square().mean().item(),
    )
