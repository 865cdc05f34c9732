"""What quantized networks are trained for, besides the picture."""

from __future__ import annotations

import torch

from ptqsr.training.processes import sum_over_processes


def structure(features: torch.Tensor) -> torch.Tensor:
    """Return the maps of features [N, C, H, W], [N, HW]: sums over channels of F^2, of norm 1.

    PAMS, the text after Eq. 6.
    """
    maps = features.float().square().sum(1).flatten(1)
    return maps / maps.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def structured_transfer(
    student: torch.Tensor, teacher: torch.Tensor, form: str = "mean"
) -> torch.Tensor:
    """Return PAMS' SKT loss of two features [N, C, H, W], without its weight.

    "mean": the mean over samples and pixels of the squared difference of their maps, as the
    authors' code has it; "norm": the difference's 2-norm, mean over samples (Eq. 6).
    """
    difference = structure(student) - structure(teacher)
    if form == "mean":
        return difference.square().mean()
    # Not norm(): it has no gradient at 0, where a network begins that is not quantized yet.
    return (difference.square().sum(1) + torch.finfo(torch.float32).tiny).sqrt().mean()


def deviation(x: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of all values, those of all processes' shares (ODM, Eq. 2)."""
    x = x.float()
    total = sum_over_processes(torch.stack((x.sum(), x.new_tensor(float(x.numel())))))
    mean, number = total[0] / total[1].detach(), total[1].detach()
    square = sum_over_processes((x - mean).square().sum())
    return (square / number + torch.finfo(torch.float32).tiny).sqrt()


def mismatch(x: torch.Tensor) -> tuple[float, float]:
    """Return how far the channels of x [N, C, H, W] are apart: (m^mu, m^sigma) (ODM, Eq. 6).

    The standard deviation over channels of their means, and of their standard deviations.
    """
    x = x.detach().float()
    means, deviations = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False).sqrt()
    apart = [float(v.var(unbiased=False).sqrt()) for v in (means, deviations)]
    return apart[0], apart[1]
