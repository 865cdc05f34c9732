"""Native CPU kernels, in place of the references where the native module is there."""

from ptqsr.ops.cpu import histogram, subset

__all__ = ["histogram", "subset"]
