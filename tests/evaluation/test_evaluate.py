"""Evaluation of networks on folders and pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph
from PIL import Image
from torch import nn

import ptqsr
from ptqsr import PtqsrError, models
from ptqsr.evaluation import find_pairs
from ptqsr.images import downscale, upscale


class Nearest(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


NEAREST = models.wrap(Nearest(), scale=2)


def write(
    folder: Path, names: list[str], suffix: str = "", size: tuple[int, int] = (20, 24)
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        image = photograph(*size, i)
        if folder.name == "LR":
            image = downscale(image, 2)[0]
        Image.fromarray(image).save(folder / f"{name}{suffix}.png")


@pytest.mark.parametrize("form", ["pairs", "scaled folder", "suffixed", "alone", "HR alone"])
def test_folders(tmp_path: Path, form: str) -> None:
    names = ["b", "a"]
    root = tmp_path / "x2" if form == "scaled folder" else tmp_path
    write(tmp_path if form == "alone" else root / "HR", names)
    if form in ("pairs", "scaled folder", "suffixed"):
        write(root / "LR", names, "x2" if form == "suffixed" else "")
    result = ptqsr.evaluate(NEAREST, tmp_path)
    assert [image.name for image in result.images] == ["a", "b"]
    pairs = [downscale(photograph(20, 24, i), 2) for i in (1, 0)]
    expected = ptqsr.evaluate(NEAREST, pairs)
    assert (result.psnr, result.ssim) == (expected.psnr, expected.ssim)


def test_border_is_cut_and_output_rounded() -> None:
    lr = photograph(12, 12)
    hr = lr.repeat(2, 0).repeat(2, 1)
    assert ptqsr.evaluate(NEAREST, [(lr, hr)]).psnr == math.inf
    spoiled = hr.copy()
    spoiled[:2] = 0
    spoiled[:, -2:] = 255
    assert ptqsr.evaluate(NEAREST, [(lr, spoiled)]).psnr == math.inf
    spoiled[2, 2] ^= 255
    assert ptqsr.evaluate(NEAREST, [(lr, spoiled)]).psnr < 50

    class Off(Nearest):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0.4 / 255

    assert ptqsr.evaluate(models.wrap(Off(), scale=2), [(lr, hr)]).psnr == math.inf


def test_tiny_pictures_and_json() -> None:
    for size in (1, 2, 3):
        lr = np.full((size, size, 3), 7, np.uint8)
        result = ptqsr.evaluate(NEAREST, [("one", lr, upscale(lr, 2))])
        assert result.psnr == math.inf
        assert json.loads(json.dumps(result.to_json(), allow_nan=False))["psnr"] == "inf"


def test_luma_networks() -> None:
    lr = photograph(12, 12)
    hr = lr.repeat(2, 0).repeat(2, 1)
    net = models.wrap(Nearest(), scale=2, colours="y")
    # Only luma's own rounding to 8 bits is lost.
    assert 55 < ptqsr.evaluate(net, [(lr, hr)]).psnr < 70


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(PtqsrError, match="no such folder"):
        find_pairs(tmp_path / "missing", 2)
    with pytest.raises(PtqsrError, match="holds no picture"):
        find_pairs(tmp_path, 2)
    write(tmp_path / "x4" / "HR", ["a"])
    with pytest.raises(PtqsrError, match="has x4, but no pictures of scale 2"):
        find_pairs(tmp_path, 2)
    write(tmp_path / "d" / "HR", ["a", "b"])
    write(tmp_path / "d" / "LR", ["a"])
    with pytest.raises(PtqsrError, match=r"b\.png: has no partner"):
        find_pairs(tmp_path / "d", 2)
    write(tmp_path / "e" / "HR", ["a"], size=(40, 40))
    write(tmp_path / "e" / "LR", ["a"])
    with pytest.raises(PtqsrError, match=r"a\.png: 12x10 is not 1/2 of 40x40"):
        ptqsr.evaluate(NEAREST, tmp_path / "e")
    write(tmp_path / "f" / "GT", ["a"])
    write(tmp_path / "f" / "LRbic", ["a"])
    with pytest.raises(PtqsrError, match="only the folders GT, LRbic"):
        find_pairs(tmp_path / "f", 2)
    with pytest.raises(PtqsrError, match="no pictures"):
        ptqsr.evaluate(NEAREST, [])


def test_bad_pairs() -> None:
    lr, hr = downscale(photograph(20, 24), 2)
    for pair in ((lr / 255, hr), (lr[..., 0], hr[..., 0]), (torch.zeros(3, 4, 4), hr)):
        with pytest.raises(PtqsrError, match="give uint8 arrays"):
            ptqsr.evaluate(NEAREST, [pair])
    with pytest.raises(PtqsrError, match="no pair of scale 2"):
        ptqsr.evaluate(NEAREST, [(lr, hr[:-2])])
    with pytest.raises(PtqsrError, match="is its scale really 4"):
        ptqsr.evaluate(models.wrap(Nearest(), scale=4), [(lr, np.zeros((40, 48, 3), np.uint8))])

    class Broken(Nearest):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * torch.nan

    with pytest.raises(PtqsrError, match="1: the network's output holds NaN"):
        ptqsr.evaluate(models.wrap(Broken(), scale=2), [(lr, hr)])


@pytest.mark.shared
@pytest.mark.parametrize("scale, expected", [(2, 38.0), (4, 32.21)])
def test_authors_imdn_on_set5(shared: Path, scale: int, expected: float) -> None:
    network = models.load(shared / "weights" / f"IMDN_x{scale}.pth")
    result = ptqsr.evaluate(network, shared / "data" / "Set5")
    assert result.psnr == pytest.approx(expected, abs=0.02)
