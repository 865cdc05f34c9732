"""The zoo: names, shapes, detection, weight files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ptqsr import PtqsrError, models

VARIANTS = [
    ("edsr", dict(blocks=2, width=8)),
    ("edsr", dict(blocks=3, width=256)),
    ("edsr", dict()),
    ("imdn", dict(blocks=2, width=32)),
    ("imdn", dict()),
]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name, hyperparameters", VARIANTS, ids=str)
def test_build_save_load(tmp_path: Path, name: str, hyperparameters: dict, scale: int) -> None:
    round_trip(models.build(name, scale=scale, weights=None, **hyperparameters), tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "npz"])
def test_formats(tmp_path: Path, tiny: models.SRNetwork, suffix: str) -> None:
    round_trip(tiny, tmp_path / f"w.{suffix}")


def round_trip(network: models.SRNetwork, path: Path) -> None:
    name, scale, suffix = network.architecture, network.scale, path.suffix[1:]
    state = network.state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    elif suffix == "npz":
        np.savez(path, **{k: v.numpy() for k, v in state.items()})
    else:
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    for again in (models.load(path), models.build(name, scale=scale, weights=path)):
        assert again.hyperparameters == network.hyperparameters
        x = torch.rand(1, 3, 9, 7)
        y = again(x)
        assert torch.equal(network(x), y) and y.shape == (1, 3, 9 * scale, 7 * scale)
        rebuilt = type(again)(**again.hyperparameters)
        rebuilt.load_state_dict(again.state_dict())


def test_author_names() -> None:
    names = set(models.build("edsr", scale=4, weights=None).state_dict())
    assert {
        "sub_mean.weight",
        "head.0.weight",
        "body.15.body.2.bias",
        "body.16.weight",
        "tail.0.2.weight",
        "tail.1.bias",
        "add_mean.bias",
    } <= names
    names = set(models.build("imdn", scale=2, weights=None).state_dict())
    assert {
        "fea_conv.weight",
        "IMDB6.c5.bias",
        "IMDB1.cca.conv_du.2.weight",
        "c.0.weight",
        "LR_conv.bias",
        "upsampler.0.weight",
    } <= names


def test_files_without_mean_colours_load(tmp_path: Path) -> None:
    state = models.build("edsr", weights=None, blocks=1, width=8).state_dict()
    torch.save({k: v for k, v in state.items() if "mean" not in k}, tmp_path / "w.pt")
    models.load(tmp_path / "w.pt")


@pytest.mark.parametrize("key", ["params", "state_dict", "params_ema"])
def test_wrapped_state_dicts(tmp_path: Path, key: str) -> None:
    state = models.build("imdn", weights=None, blocks=1, width=16).state_dict()
    torch.save({key: state, "epoch": 3}, tmp_path / "w.pth")
    assert models.load(tmp_path / "w.pth").hyperparameters["blocks"] == 1


@pytest.mark.shared
@pytest.mark.parametrize("scale", [2, 4])
def test_authors_imdn(shared: Path, scale: int) -> None:
    network = models.load(shared / "weights" / f"IMDN_x{scale}.pth")
    assert network.hyperparameters == {"scale": scale, "blocks": 6, "width": 64}


@pytest.mark.parametrize(
    "names", [["head.0.weight", "tail.0.0.weight"], ["fea_conv.weight", "upsampler.0.weight"]]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (64, 0, 3, 3)])
def test_odd_shapes_are_refused(tmp_path: Path, names: list[str], shape: tuple[int, ...]) -> None:
    torch.save({name: torch.zeros(shape) for name in names}, tmp_path / "odd.pt")
    with pytest.raises(PtqsrError, match=r"odd\.pt"):
        models.load(tmp_path / "odd.pt")


def test_unknown(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(PtqsrError, match=r"linear\.pt.*begin with weight"):
        models.load(tmp_path / "linear.pt")
    with pytest.raises(PtqsrError, match="'vdsr' is unknown"):
        models.build("vdsr")
    with pytest.raises(PtqsrError, match="scale 5"):
        models.build("edsr", scale=5)
    with pytest.raises(PtqsrError, match="depth"):
        models.build("edsr", weights=None, depth=3)
    with pytest.raises(PtqsrError, match="no weights of imdn x3 are bundled"):
        models.build("imdn", scale=3)


def test_scale_that_contradicts_the_file(tmp_path: Path) -> None:
    state = models.build("edsr", scale=2, weights=None, blocks=1, width=8).state_dict()
    torch.save(state, tmp_path / "x2.pt")
    with pytest.raises(PtqsrError, match="for scale 2, not 4"):
        models.build("edsr", scale=4, weights=tmp_path / "x2.pt")
    assert models.build("edsr", scale=None, weights=tmp_path / "x2.pt").scale == 2


def test_wrap() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )
    network = models.wrap(module, scale=2, value_range=255)
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(network(x), module(x * 255) / 255)
    assert network.quantized_layers == ("module.1",)
