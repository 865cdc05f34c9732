"""Reading pictures, and cutting crops from them."""

from __future__ import annotations

import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import photograph, write_photograph
from PIL import Image

from ptqsr import PtqsrError
from ptqsr.images import cut, cut_held_out, list_images, read_rgb


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "LA"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(photograph(8, 9)).convert(mode).save(path)
    image = read_rgb(path)
    assert image.shape == (8, 9, 3) and image.dtype == np.uint8
    if mode in ("L", "LA", "1"):
        assert (image == image[..., :1]).all()


def test_unreadable(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    whole = tmp_path / "whole.png"
    Image.fromarray(photograph(40, 40)).save(whole)
    cut_short = tmp_path / "short.png"
    cut_short.write_bytes(whole.read_bytes()[:-200])
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.zeros((4, 4), np.int32)).save(deep)
    for path in (text, cut_short, deep, tmp_path / "missing.png", tmp_path):
        with pytest.raises(PtqsrError, match=path.name):
            read_rgb(path)


def test_list_images(tmp_path: Path) -> None:
    with pytest.raises(PtqsrError, match="no such folder"):
        list_images(tmp_path / "missing")
    with pytest.raises(PtqsrError, match="holds no picture"):
        list_images(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("b.PNG", "sub/a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["b.PNG", "a.jpg"]


def save(folder: Path, sizes: list[tuple[int, int]]) -> list[Path]:
    paths = []
    for i, (height, width) in enumerate(sizes):
        # Each picture's column is its red, so that a crop tells where it came from.
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 0] = np.arange(width)
        image[..., 1] = np.arange(height)[:, None]
        image[..., 2] = i
        paths.append(folder / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def test_held_out_crops_do_not_overlap_calibration(tmp_path: Path) -> None:
    paths = save(tmp_path, [(40, 100), (100, 40)])
    crops, held_out = cut(paths, size=16, count=30, held_out=20, seed=0)
    assert len(crops) == 30 and len(held_out) == 20
    for axis, picture in ((0, 0), (1, 1)):
        edge = max(c[..., axis].max() for c in crops if c[0, 0, 2] == picture)
        assert min(c[..., axis].min() for c in held_out if c[0, 0, 2] == picture) > edge
    others = cut_held_out(paths, size=16, count=6, seed=0)
    assert len(others) == 6 and min(c[..., 0].min() for c in others if c[0, 0, 2] == 0) > 24
    assert not any(np.array_equal(a, b) for a in others for b in held_out[:3])
    again, _ = cut(paths, size=16, count=30, held_out=20, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(crops, again, strict=True))


def test_small_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = save(tmp_path, [(20, 20), (8, 90), (12, 12)])
    with caplog.at_level(logging.WARNING):
        crops, held_out = cut(paths, size=16, count=4, held_out=4, seed=0)
    assert "passed over" in caplog.text and len(crops) == 4
    assert not held_out  # 20 pixels hold one crop, not two
    assert not cut_held_out(paths, size=16, count=4, seed=0)
    with pytest.raises(PtqsrError, match="smaller than a crop"):
        cut(paths[1:], size=16, count=4, held_out=0, seed=0)


def test_reading_in_threads_leaves_the_filters_of_warnings(tmp_path: Path) -> None:
    """They are the whole process's, and each reader silences some for a while."""
    paths = [write_photograph(tmp_path / f"{number}.png", 60, 60, number) for number in range(24)]
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert all(picture.shape == (60, 60, 3) for picture in pool.map(read_rgb, paths))
    assert warnings.filters == before
