"""Networks as files for other runtimes: ONNX, and programs of torch.export."""

from ptqsr.exporting.onnx_graph import PICTURE, quiet, write_static
from ptqsr.exporting.ranges import crops
from ptqsr.exporting.run import Export, export, format_of
from ptqsr.exporting.runtimes import onnxruntime_session
from ptqsr.exporting.verify import Check

__all__ = [
    "PICTURE",
    "Check",
    "Export",
    "crops",
    "export",
    "format_of",
    "onnxruntime_session",
    "quiet",
    "write_static",
]
