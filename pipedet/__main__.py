"""`python -m pipedet VERB ...`."""

from pipedet.cli import main

if __name__ == '__main__':
    main()
