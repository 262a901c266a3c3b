"""`pipedet train`, for those who did not install the console script."""

import sys

from pipedet.cli import main

main(['train', *sys.argv[1:]])
