"""Native CPU kernels, in place of the references where the native module is there."""

from ptqsr.ops.cpu import conv, histogram, packing, subset, uniform

__all__ = ["conv", "histogram", "packing", "subset", "uniform"]
