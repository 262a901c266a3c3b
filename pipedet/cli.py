"""The command line: `pipedet VERB ...`, also `python -m pipedet VERB ...` and tools/VERB.py ..."""

import argparse
import importlib
import os
import sys

VERBS = {
    'train': 'train a config, then test it',
    'test': "test weights on a config's test sets, or on a folder of labelled images",
    'predict': 'locate the tips in images, folders or TIFF stacks',
    'latency': 'measure how long a config takes from image to tips',
    'compare': 'train, test and time configs alike, and write one report',
    'tune': 'search values of config keys',
    'crossval': 'leave one session out of labelled images, each in turn',
    'calibrate': 'make the scores and covariances of a trained TipNet mean what they say',
    'export': 'write trained weights as one ONNX file for a rig',
    'ensemble': 'average several trainings of one config',
    'soup': 'average the weights of trainings that began with the same ones',
    'check_data': 'look for everything that is wrong with labelled images',
    'browse': "write a contact sheet of a config's data",
}


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; what a user can mend ends in one line, not in a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):  # a file's name may not be of the console's alphabet
            stream.reconfigure(errors='backslashreplace')
    parser = argparse.ArgumentParser(prog='pipedet', description=__doc__)
    subparsers = parser.add_subparsers(dest='verb', required=True)
    for verb, summary in VERBS.items():
        subparser = subparsers.add_parser(verb, help=summary, description=summary)
        # Importing torch takes seconds: only the verb asked for is imported.
        if verb in arguments[:1]:
            module = importlib.import_module(f'pipedet.commands.{verb}')
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        args.run(args)
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        if os.environ.get('PIPEDET_TRACEBACK'):
            raise
        sys.exit(f'pipedet {args.verb}: {error}')
