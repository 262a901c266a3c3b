"""`python -m pipedet VERB ...`."""

from pipedet.cli import main

main()
