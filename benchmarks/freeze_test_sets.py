"""Write the manifests of the frozen test sets and report how hard they are.

Run once, before any model is trained. Running it again must change nothing (`git diff` says).
"""

import json

import numpy as np
import torch

from pipedet.synthesis.frozen import COUNT, FROZEN_SETS, SEED, describe_frozen, manifest_path

if __name__ == '__main__':
    torch.set_num_threads(1)
    for name in FROZEN_SETS:
        rows = describe_frozen(name)
        lines = ',\n'.join(json.dumps(row) for row in rows)
        head = f'{{"set": "{name}", "seed": {SEED}, "count": {COUNT}, "scenes": [\n'
        manifest_path(name).write_text(head + lines + '\n]}\n', encoding='utf-8')
        cnr = np.concatenate([row['cnr'] for row in rows])
        steps = (5, 10, 25, 50, 75, 90)
        table = ', '.join(
            f'p{s} {v:.2f}' for s, v in zip(steps, np.percentile(cnr, steps), strict=True)
        )
        print(f'{name}: {len(cnr)} tips, CNR {table}')
