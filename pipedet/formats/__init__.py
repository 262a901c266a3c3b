"""Real files in and out: images, their scale, and the annotations of their tips."""

from pipedet.formats.annotations import read_annotations, write_annotations
from pipedet.formats.channels import frames_of_channel, read_channels
from pipedet.formats.coco import read_coco, write_coco
from pipedet.formats.images import (
    IMAGE_SUFFIXES,
    ImageReadError,
    count_frames,
    read_image,
    read_size,
)
from pipedet.formats.records import ImageRecord
from pipedet.formats.scale import read_pixel_size_um
from pipedet.formats.schema import AnnotationError
from pipedet.formats.tip_csv import read_tip_csv, write_tip_csv
from pipedet.formats.validation import check_records
