"""pipedet: where a patch-clamp robot's pipette tips are, in micrometres, and how sure that is."""

__version__ = '0.1.0'
