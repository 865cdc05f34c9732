"""Between 8-bit pictures [H, W, 3] and network tensors [N, 3, H, W] in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch


def to_levels(image: np.ndarray) -> torch.Tensor:
    """Return float64 [1, C, H, W] in grey levels, exactly, of a uint8 picture [H, W, C]."""
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float64)).unsqueeze(0)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Return float32 [1, C, H, W] in [0, 1] of a uint8 picture [H, W, C]."""
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return tensor.unsqueeze(0).to(torch.float32) / 255


def to_uint8(tensor: torch.Tensor) -> torch.Tensor:
    """Return [..., C, H, W] rounded to the 256 grey levels, half to even, as uint8."""
    return (tensor * 255).round_().clamp_(0, 255).to(torch.uint8)
