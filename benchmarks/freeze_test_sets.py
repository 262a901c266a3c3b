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
        manifest_path(name).write_text(head + lines + '\n]}\n')
        cnr = np.concatenate([row['cnr'] for row in rows])
        percentiles = dict(zip((5, 10, 25, 50, 75, 90), np.percentile(cnr, [5, 10, 25, 50, 75, 90])))
        print(name, f'{len(cnr)} tips, CNR', {k: round(float(v), 2) for k, v in percentiles.items()})
