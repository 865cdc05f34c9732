"""Checkpoints: bit-identical round trips, and files that are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import ptqsr
from ptqsr import Config, PtqsrError, checkpoint, models, packing
from ptqsr.modules import FakeQuantConv2d


@settings(deadline=None)
@given(st.integers(2, 8), st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_packing(bits: int, values: list[int]) -> None:
    half = 1 << (bits - 1)
    codes = torch.tensor([v % (2 * half) - half for v in values], dtype=torch.int8)
    stream = packing.pack(codes, bits)
    assert stream.dtype == torch.uint8 and len(stream) == -(-len(values) * bits // 8)
    assert torch.equal(packing.unpack(stream, bits, (len(values),)), codes)


@pytest.mark.parametrize("name", ["edsr", "imdn"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    "config",
    [
        Config(bits=4, selector="optimal"),
        Config(weight_bits=3, act_bits=6, universal_set="dfsq-code", selector="optimal"),
        Config(method="minmax", bits=2),
        Config(method="percentile", bits=5),
    ],
    ids=lambda c: f"{c.method}-w{c.weight_bits}a{c.act_bits}",
)
def test_round_trip(
    tmp_path: Path, pictures: list[np.ndarray], name: str, scale: int, config: Config
) -> None:
    torch.manual_seed(1)
    network = models.build(name, scale=scale, weights=None, blocks=2, width=16)
    quantized = ptqsr.calibrate(network, pictures, config)
    path = tmp_path / "net.safetensors"
    ptqsr.save(quantized, path, provenance={"pictures": 3})
    again = ptqsr.load(path)
    for size in ((7, 9), (24, 30), (1, 1)):
        x = torch.rand(2, 3, *size)
        assert torch.equal(quantized(x), again(x))
        x = x.contiguous(memory_format=torch.channels_last)
        assert torch.equal(quantized(x), again(x))
    assert again.calibration == config and not again.training
    assert again.state_dict().keys() == quantized.state_dict().keys()
    manifest, tensors = checkpoint.read(path)
    assert manifest["provenance"]["pictures"] == 3
    for layer, other in zip(modules(quantized), modules(again), strict=True):
        assert vars(layer.quantizer).get("universal_set") == vars(other.quantizer).get(
            "universal_set"
        )
    assert not any(t.dtype == torch.float32 and ".weight_codes" in n for n, t in tensors.items())
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def modules(network: nn.Module) -> list[FakeQuantConv2d]:
    return [m for m in network.modules() if isinstance(m, FakeQuantConv2d)]


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        return self.tail(self.a(x) + self.b(x))


def test_own_networks_and_shared_quantizers(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    net = models.wrap(TwoReaders(), scale=1)
    net.quantized_layers = ("module.a", "module.b")
    quantized = ptqsr.calibrate(net, pictures)
    path = tmp_path / "own.safetensors"
    ptqsr.save(quantized, path)
    with pytest.raises(PtqsrError, match="network of your own"):
        ptqsr.load(path)
    again = ptqsr.load(path, module=models.wrap(TwoReaders(), scale=1))
    assert again.module.a.quantizer is again.module.b.quantizer
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(quantized(x), again(x))
    with pytest.raises(PtqsrError, match=r"layer module\.a is not in"):
        ptqsr.load(path, module=models.wrap(nn.Conv2d(3, 3, 1), scale=1))


def test_a_module_under_two_names(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    class Recursive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.b, self.again = self.a, self.first

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.b(self.a(self.again(self.first(x)))))

    net = models.wrap(Recursive(), scale=1)
    net.quantized_layers = ("module.a",)
    quantized = ptqsr.calibrate(net, pictures, Config(method="minmax"))
    ptqsr.save(quantized, tmp_path / "net.safetensors")
    again = ptqsr.load(tmp_path / "net.safetensors", module=models.wrap(Recursive(), scale=1))
    assert again.module.a is again.module.b
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(quantized(x), again(x))


def test_another_network_is_refused_on_load(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    def net(width: int = 4, kernel: int = 3, **how: float) -> models.SRNetwork:
        layers = [
            nn.Conv2d(3, width, 3, padding=1),
            nn.Conv2d(width, width, kernel, padding="same"),
        ]
        return models.wrap(nn.Sequential(*layers, nn.Conv2d(width, 3, 1)), scale=1, **how)

    path = tmp_path / "net.safetensors"
    ptqsr.save(ptqsr.calibrate(net(value_range=255), pictures), path)
    with pytest.raises(PtqsrError, match="made with hyperparameters"):
        ptqsr.load(path, module=net())
    for other in (net(width=6, value_range=255), net(kernel=1, value_range=255)):
        with pytest.raises(PtqsrError, match=r"has shape"):
            ptqsr.load(path, module=other)
    with pytest.raises(PtqsrError, match="made with architecture wrapped"):
        ptqsr.load(path, module=models.build("edsr", weights=None, blocks=1, width=8))


def test_state_dicts_carry_the_weights(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    one = ptqsr.calibrate(tiny, pictures, Config(method="minmax", bits=4))
    with torch.no_grad():
        for p in tiny.parameters():
            p.mul_(1.1)
    other = ptqsr.calibrate(tiny, pictures, Config(method="minmax", bits=4))
    other.load_state_dict(one.state_dict())
    x = torch.rand(1, 3, 6, 6)
    assert torch.equal(one(x), other(x))


def test_others_may_read_a_checkpoint(saved: Path) -> None:
    import os

    umask = os.umask(0)
    os.umask(umask)
    assert saved.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.fixture
def saved(tmp_path: Path, tiny: models.SRNetwork, pictures: list[np.ndarray]) -> Path:
    path = tmp_path / "net.safetensors"
    ptqsr.save(ptqsr.calibrate(tiny, pictures, Config(method="minmax")), path)
    return path


def rewrite(path: Path, **changes: str) -> None:
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **changes}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata)


def test_damaged_files_are_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for cut in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:cut])
        with pytest.raises(PtqsrError, match=r"net\.safetensors: truncated"):
            ptqsr.load(saved)
    for place in (len(whole) - 1, len(whole) - 1000):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        saved.write_bytes(flipped)
        with pytest.raises(PtqsrError, match="damaged or edited"):
            ptqsr.load(saved)


def test_edited_and_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    manifest, tensors = checkpoint.read(saved)
    manifest["hyperparameters"]["scale"] = 4
    rewrite(saved, manifest=json.dumps(manifest))
    with pytest.raises(PtqsrError, match="damaged or edited"):
        ptqsr.load(saved)
    rewrite(saved, version="7")
    with pytest.raises(PtqsrError, match="format version 7, this ptqsr reads 2"):
        ptqsr.load(saved)
    save_file(tensors, tmp_path / "plain.safetensors")
    with pytest.raises(PtqsrError, match="no ptqsr checkpoint"):
        ptqsr.load(tmp_path / "plain.safetensors")
    with pytest.raises(PtqsrError, match="no such file"):
        ptqsr.load(tmp_path / "missing.safetensors")


def test_float_networks_are_not_saved(tmp_path: Path, tiny: models.SRNetwork) -> None:
    with pytest.raises(PtqsrError, match="is not quantized"):
        ptqsr.save(tiny, tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_given_network_stays_as_it_is(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    net = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3)))
    model = models.wrap(net, scale=1)
    quantized = ptqsr.calibrate(model, pictures, Config(method="minmax"))
    ptqsr.save(quantized, tmp_path / "own.safetensors")
    for _ in range(2):
        again = ptqsr.load(tmp_path / "own.safetensors", module=models.wrap(net, scale=1))
        assert type(net[1]) is nn.Conv2d and again.module[1] is not net[1]
    with pytest.raises(PtqsrError, match="Sequential is no network of ptqsr; wrap it"):
        ptqsr.load(tmp_path / "own.safetensors", module=net)  # type: ignore[arg-type]
