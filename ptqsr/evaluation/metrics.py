"""PSNR and SSIM on luma, as the SR field reports them."""

from __future__ import annotations

import math

import torch

# Wang et al. 2004.
K1, K2, DATA_RANGE, WINDOW, SIGMA = 0.01, 0.03, 255.0, 11, 1.5


def psnr(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the PSNR in dB of two lumas in grey levels, float64 [1, 1, H, W]; +inf where equal."""
    error = float((ours - reference).pow(2).mean())
    return 10 * math.log10(DATA_RANGE**2 / error) if error > 0 else math.inf


def ssim(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the SSIM of two lumas in grey levels, float64 [1, 1, H, W].

    Gaussian windows of 11x11 that lie fully inside the picture; NaN where the picture is smaller
    than one window.
    """
    if min(ours.shape[-2:]) < WINDOW:
        return math.nan
    offset = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    gauss = torch.exp(-offset.pow(2) / (2 * SIGMA**2))
    weights = (gauss / gauss.sum()).tolist()

    def mean(x: torch.Tensor) -> torch.Tensor:
        # Sums of shifted pictures: PyTorch has no fast convolution in float64.
        for dim in (2, 3):
            size = x.shape[dim] - WINDOW + 1
            x = sum((w * x.narrow(dim, i, size) for i, w in enumerate(weights)), x.new_zeros(()))
        return x

    a, b = ours.double(), reference.double()
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = (K1 * DATA_RANGE) ** 2, (K2 * DATA_RANGE) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(similarity.mean())
