"""`pipedet predict`, for those who did not install the console script."""

import sys

from pipedet.cli import main

main(['predict', *sys.argv[1:]])
