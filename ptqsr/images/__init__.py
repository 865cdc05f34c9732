"""Pictures in and out: reading, MATLAB-compatible bicubic resizing, colour, crops."""

from ptqsr.images.bicubic import downscale, resize, upscale
from ptqsr.images.colour import luma, unit_luma, with_luma
from ptqsr.images.crops import cut, cut_held_out, held_out_band
from ptqsr.images.read import Picture, list_images, read_picture, read_rgb
from ptqsr.images.samples import sample_photographs
from ptqsr.images.tensors import to_levels, to_tensor, to_uint8
from ptqsr.images.write import check_format, check_holds, write_picture

__all__ = [
    "Picture",
    "check_format",
    "check_holds",
    "cut",
    "cut_held_out",
    "downscale",
    "held_out_band",
    "list_images",
    "luma",
    "read_picture",
    "read_rgb",
    "resize",
    "sample_photographs",
    "to_levels",
    "to_tensor",
    "to_uint8",
    "unit_luma",
    "upscale",
    "with_luma",
    "write_picture",
]
