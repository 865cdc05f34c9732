"""Which arithmetic pays on which machine."""

from __future__ import annotations

import torch

from ptqsr.errors import PtqsrError
from ptqsr.training.config import Precision


def choose(precision: Precision, device: torch.device, autocasts: bool) -> tuple[bool, str]:
    """Return whether to autocast to bfloat16, and why; `autocasts`: whether "auto" may.

    bfloat16 pays where there are instructions for it: AMX or AVX512-BF16 on a CPU, Ampere and
    newer on a GPU. Elsewhere it is emulated and slower than float32.
    """
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
