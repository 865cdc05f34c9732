"""A network and pictures that tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ptqsr import models


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A uint8 picture [H, W, 3] with smooth parts, edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + c) + np.cos(y / 7 - c) + ((x + 2 * y) % 40 > 20) for c in range(3)]
    picture = np.stack(waves, -1) * 40 + 90 + rng.normal(0, 4, (height, width, 3))
    return picture.clip(0, 255).astype(np.uint8)


def write_photograph(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """Save a photograph, and the folder it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(height, width, seed)).save(path)
    return path


def write_clip(path: Path, codec: str, frames: int, height: int, width: int) -> Path:
    """Save photographs as a video, and the folder it is in; the test is skipped without PyAV."""
    av = pytest.importorskip("av", reason='needs pip install "ptqsr[video]"')
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = photograph(height, width, number)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tiny_edsr() -> models.SRNetwork:
    """A small EDSR x2 with random weights, always the same."""
    torch.manual_seed(0)
    return models.build("edsr", scale=2, weights=None, blocks=2, width=16)
