"""Which arithmetic pays on which machine."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ptqsr.errors import PtqsrError
from ptqsr.training.config import Precision


@dataclass(frozen=True)
class Arithmetic:
    """`bf16`: autocast to bfloat16. `tf32`: float32 products on a GPU keep 11 bits of it, in TF32.
    `text`: which, and why.
    """

    bf16: bool
    tf32: bool
    text: str

    def use(self, device: torch.device) -> None:
        """Set PyTorch up for it, and for the same bits every time."""
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
            torch.backends.cudnn.deterministic = True


def choose(precision: Precision, device: torch.device, autocasts: bool) -> Arithmetic:
    """Return what to compute in; `autocasts`: whether "auto" may round float32.

    bfloat16 pays where there are instructions for it: AMX or AVX512-BF16 on a CPU, Ampere and
    newer on a GPU. Elsewhere it is emulated and slower than float32.
    """
    bf16, text = _choose(precision, device, autocasts)
    tf32 = device.type == "cuda" and autocasts and precision != "fp32"
    return Arithmetic(bf16, tf32, f"{text}; float32 as TF32" if tf32 else text)


def _choose(precision: Precision, device: torch.device, autocasts: bool) -> tuple[bool, str]:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        native, unit = major >= 8, f"compute capability {major}.{minor}"
    else:
        units = {
            "AMX": torch.cpu._is_amx_tile_supported(),
            "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        }
        native = any(units.values())
        unit = next((name for name, there in units.items() if there), f"no {' or '.join(units)}")
    if precision == "auto" and not autocasts:
        return False, "fp32, since bfloat16 would move quantized values to other levels"
    if precision == "auto":
        return native, f"{'bf16' if native else 'fp32'}, chosen since the {device.type} has {unit}"
    if precision not in ("fp32", "bf16"):
        raise PtqsrError(f"precision {precision!r} is unknown; choose auto, fp32 or bf16")
    slow = ", which this machine emulates slowly" if precision == "bf16" and not native else ""
    return precision == "bf16", f"{precision}, as asked{slow}"
