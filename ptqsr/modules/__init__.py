"""Quantized convolutions, and the surgery that puts them into a network."""

from ptqsr.modules.fake import FakeQuantConv2d
from ptqsr.modules.surgery import in_body, quantizable, replace

__all__ = ["FakeQuantConv2d", "in_body", "quantizable", "replace"]
