"""Quantized convolutions, and the surgery that puts them into a network."""

from ptqsr.modules.as_conv import as_convolutions, convolutions, owner
from ptqsr.modules.deployed import QuantConv2d
from ptqsr.modules.fake import FakeQuantConv2d, geometry
from ptqsr.modules.integer import (
    Codes,
    IntegerConv,
    SelectedCodes,
    SubsetCodes,
    UniformCodes,
    integer_conv,
    levels_tensor,
)
from ptqsr.modules.placed import place, placed
from ptqsr.modules.selecting import SelectedConv, SelectedQuantConv2d, selected_conv
from ptqsr.modules.sensing import blind, sense
from ptqsr.modules.surgery import check_quantizable, in_body, quantizable, replace

__all__ = [
    "Codes",
    "FakeQuantConv2d",
    "IntegerConv",
    "QuantConv2d",
    "SelectedCodes",
    "SelectedConv",
    "SelectedQuantConv2d",
    "SubsetCodes",
    "UniformCodes",
    "as_convolutions",
    "blind",
    "check_quantizable",
    "convolutions",
    "geometry",
    "in_body",
    "integer_conv",
    "levels_tensor",
    "owner",
    "place",
    "placed",
    "quantizable",
    "replace",
    "selected_conv",
    "sense",
]
