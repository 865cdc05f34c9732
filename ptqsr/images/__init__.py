"""Pictures in and out: reading, MATLAB-compatible bicubic resizing, colour, crops."""

from ptqsr.images.bicubic import downscale, resize, upscale
from ptqsr.images.colour import luma
from ptqsr.images.crops import cut
from ptqsr.images.read import list_images, read_rgb
from ptqsr.images.samples import sample_photographs
from ptqsr.images.tensors import to_levels, to_tensor, to_uint8

__all__ = [
    "cut",
    "downscale",
    "list_images",
    "luma",
    "read_rgb",
    "resize",
    "sample_photographs",
    "to_levels",
    "to_tensor",
    "to_uint8",
    "upscale",
]
