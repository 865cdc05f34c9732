"""PSNR and SSIM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ptqsr.evaluation.metrics import psnr, ssim
from ptqsr.images import luma


def lumas(height: int = 40, width: int = 53) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    a = torch.rand(1, 1, height, width, dtype=torch.float64).cumsum(-1) * 8 + 16
    return a, (a + torch.randn_like(a) * 5).clamp(16, 235)


def test_against_scikit_image() -> None:
    a, b = lumas()
    x, y = a[0, 0].numpy(), b[0, 0].numpy()
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-9)
    _, full = structural_similarity(
        x,
        y,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert ssim(a, b) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-9)


def test_identical_and_tiny() -> None:
    a, _ = lumas()
    assert psnr(a, a) == math.inf and ssim(a, a) == pytest.approx(1)
    assert math.isnan(ssim(a[..., :5], a[..., :5]))


def test_luma() -> None:
    """Against the formula with integers: Y = 16 + (65.738 R + 129.057 G + 25.064 B) / 256."""
    rgb = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [10, 20, 30]]], np.uint8)
    y = luma(torch.from_numpy(rgb.transpose(2, 0, 1).copy()).double())
    expected = 16 + (rgb @ np.array([65.738, 129.057, 25.064])) / 256
    assert np.allclose(y[0].numpy(), expected)
