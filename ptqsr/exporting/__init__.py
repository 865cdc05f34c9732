"""Networks as files for other runtimes: ONNX, and programs of torch.export."""

from ptqsr.exporting.onnx_graph import PICTURE, quiet, write_static
from ptqsr.exporting.run import CROP_SIZE, CROPS, FORMATS, RESULTS, Export, export
from ptqsr.exporting.runtimes import convolutions, onnxruntime_session
from ptqsr.exporting.verify import Check

__all__ = [
    "CROPS",
    "CROP_SIZE",
    "FORMATS",
    "PICTURE",
    "RESULTS",
    "Check",
    "Export",
    "convolutions",
    "export",
    "onnxruntime_session",
    "quiet",
    "write_static",
]
