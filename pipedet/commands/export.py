"""Write a trained detector as one ONNX file, for a rig: see `pipedet.runtime`."""

import argparse
from pathlib import Path

from pipedet.commands.common import add_model_arguments, localiser_of
from pipedet.runtime.export import export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model_arguments(parser)
    parser.add_argument('--out', type=Path, required=True, help='the .onnx file to write')
    parser.add_argument(
        '--frame', type=int, nargs=2, metavar=('H', 'W'), required=True, help="the camera's frames"
    )
    parser.add_argument('--pixel-size-um', type=float, help='size of their pixels')


def run(args: argparse.Namespace) -> None:
    """Write the file and say what it takes."""
    localiser = localiser_of(args, 'cpu')
    model, pipeline = localiser.model, localiser.pipeline
    session = export(model, pipeline, args.out, tuple(args.frame), args.pixel_size_um)
    height, width = session.network.get_inputs()[0].shape[2:]
    print(
        f'{args.out}: frames of {args.frame[0]}x{args.frame[1]} (H, W), {width}x{height} pixels to '
        f'the network, tips from a score of {session.score_threshold:g}'
    )
    if session.pixel_size_um is None:
        print('no --pixel-size-um: tips will be in pixels only')
