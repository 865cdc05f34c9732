"""Post-training quantization of image super-resolution networks.

Importing this costs nothing: what a name needs is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptqsr import models, points
    from ptqsr.checkpoint import load, save
    from ptqsr.config import Config
    from ptqsr.deployment import deploy
    from ptqsr.errors import PtqsrError
    from ptqsr.evaluation import evaluate
    from ptqsr.exporting import export
    from ptqsr.methods import calibrate
    from ptqsr.upscaling import upscale

__version__ = "0.1.0"

__all__ = [
    "Config",
    "PtqsrError",
    "calibrate",
    "deploy",
    "evaluate",
    "export",
    "load",
    "models",
    "points",
    "save",
    "upscale",
]

_HOMES = {
    "Config": "ptqsr.config",
    "PtqsrError": "ptqsr.errors",
    "calibrate": "ptqsr.methods",
    "deploy": "ptqsr.deployment",
    "evaluate": "ptqsr.evaluation",
    "export": "ptqsr.exporting",
    "load": "ptqsr.checkpoint",
    "save": "ptqsr.checkpoint",
    "upscale": "ptqsr.upscaling",
}


def __getattr__(name: str) -> Any:
    if name in ("models", "points"):
        return import_module(f"ptqsr.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ptqsr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
