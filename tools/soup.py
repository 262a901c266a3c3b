"""`pipedet soup`, for those who did not install the console script."""

import sys

from pipedet.cli import main

if __name__ == '__main__':
    main(['soup', *sys.argv[1:]])
