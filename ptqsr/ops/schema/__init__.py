"""Every operation: its schema, then its shapes. Kernels are registered per device elsewhere."""

from ptqsr.ops.schema import histogram, subset
from ptqsr.ops.schema.library import layout, library

__all__ = ["histogram", "layout", "library", "subset"]
