"""Native CPU kernels, in place of the references where the native module is there."""

from ptqsr.ops.cpu import conv, subset

__all__ = ["conv", "subset"]
