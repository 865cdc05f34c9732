"""Quantized convolutions, and the surgery that puts them into a network."""

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
from ptqsr.modules.surgery import in_body, quantizable, replace

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
    "blind",
    "geometry",
    "in_body",
    "integer_conv",
    "levels_tensor",
    "place",
    "placed",
    "quantizable",
    "replace",
    "selected_conv",
    "sense",
]
