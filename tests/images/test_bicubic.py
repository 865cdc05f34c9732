"""Bicubic resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import photograph
from hypothesis import given
from hypothesis import strategies as st

from ptqsr.images import downscale, list_images, read_rgb, resize, upscale


@pytest.mark.shared
@pytest.mark.parametrize("name", ["Set5", "Set14", "BSD100"])
@pytest.mark.parametrize("scale", [2, 4])
def test_agrees_with_the_standard_pictures(shared: Path, name: str, scale: int) -> None:
    folder = shared / "data" / name / f"x{scale}"
    wrong = total = 0
    for path in list_images(folder / "HR")[:20]:
        lr = read_rgb(folder / "LR" / path.name).astype(int)
        ours, _ = downscale(read_rgb(path), scale)
        wrong += int((np.abs(ours - lr) > 1).sum())
        total += lr.size
    assert wrong <= 0.001 * total


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 255),
)
def test_flat_pictures_stay_flat(h: int, w: int, height: int, width: int, level: int) -> None:
    image = np.full((h, w, 3), level, np.uint8)
    assert np.array_equal(resize(image, height, width), np.full((height, width, 3), level))


def test_symmetric() -> None:
    """Mirroring the picture mirrors the result."""
    image = photograph(24, 36)
    assert np.array_equal(downscale(image[:, ::-1], 2)[0], downscale(image, 2)[0][:, ::-1])
    assert np.array_equal(upscale(image[::-1], 3), upscale(image, 3)[::-1])


def test_ramp_is_reproduced() -> None:
    """Cubic convolution is exact on a linear ramp, away from the border."""
    ramp = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 8, 0)
    up = upscale(ramp, 2)[4, 8:-8, 0].astype(int)
    expected = (np.arange(len(ramp[0]) * 2) + 0.5) / 2 - 0.5
    assert np.abs(up - 4 * expected[8:-8]).max() <= 0.5


@pytest.mark.parametrize("size", [(7, 9), (8, 8), (5, 13)])
def test_hr_is_cut_to_a_multiple(size: tuple[int, int]) -> None:
    lr, hr = downscale(photograph(*size), 4)
    assert lr.shape[:2] == (size[0] // 4, size[1] // 4)
    assert hr.shape[:2] == (size[0] // 4 * 4, size[1] // 4 * 4)
