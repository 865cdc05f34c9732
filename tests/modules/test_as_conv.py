"""Linear layers and transposed convolutions as convolutions: the same, through all of ptqsr."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.evaluation import cost
from ptqsr.modules import FakeQuantConv2d
from ptqsr.modules.as_conv import LinearAsConv, TransposedAsConv

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 17])
@torch.no_grad()
def test_transposed_convolutions(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    tried = 0
    for padding, more, groups in product((0, 1, 5), range(stride), (1, 2)):
        layer = nn.ConvTranspose2d(
            4, 6, (kernel, kernel + 1), stride, padding, more, groups=groups, bias=groups > 1
        )
        for height, width in ((1, 3), (4, 7)):
            x = torch.rand(2, 4, height, width)
            rows = (height - 1) * stride - 2 * padding + kernel + more
            columns = (width - 1) * stride - 2 * padding + kernel + 1 + more
            if min(rows, columns) < 1:
                continue
            y = TransposedAsConv(layer)(x)
            assert y.shape == (2, 6, rows, columns)
            assert torch.allclose(y, layer(x), atol=1e-5), (padding, more, groups)
            tried += 1
    assert tried


@pytest.mark.parametrize("shape", [(2, 9), (1, 3, 4), (2, 2, 3, 2)])
@torch.no_grad()
def test_linear_layers(shape: tuple[int, ...]) -> None:
    layer = nn.Linear(5, 7, bias=len(shape) > 2)
    x = torch.rand(*shape, 5)
    y = LinearAsConv(layer)(x)
    assert y.is_contiguous() and torch.allclose(y, layer(x), atol=1e-6)


class Tokens(nn.Module):
    """Linear layers (one of them twice), PReLU, GELU, groups, batch norm, a transposed convolution.

    `act` and `full` are each one module under two names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8)
        self.full, self.wide, self.narrow = nn.Linear(8, 8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.grouped, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.again = self.full
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
        self.late, self.tail = nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3, padding=1)
        for norm in (self.norm, self.late):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        tokens = self.full(x.permute(0, 2, 3, 1))
        tokens = tokens + self.narrow(nn.functional.gelu(self.wide(self.again(tokens))))
        y = self.act(self.norm(self.grouped(tokens.permute(0, 3, 1, 2))))
        return self.tail(self.late(self.up(x + y)))


INCLUDE = ("module.up",)


@pytest.mark.parametrize("method", ["dfsq", "dfsq+", "minmax", "brecq"])
@torch.no_grad()
def test_through_everything(method: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Tokens().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    pictures = [torch.rand(2, 3, 12, 14), torch.rand(1, 3, 12, 14)]
    config = Config(method=method, bits=8, include=INCLUDE, iterations=2)
    quantized = ptqsr.calibrate(net, pictures, config)
    layers = {n for n, m in quantized.named_modules() if isinstance(m, FakeQuantConv2d)}
    names = ("full.conv", "wide.conv", "narrow.conv", "grouped", "up.conv")
    assert layers == {f"module.{name}" for name in names}
    assert quantized.module.full is quantized.module.again
    x = torch.rand(2, 3, 9, 10)
    y, full = quantized(x), net(x)
    assert y.shape == (2, 3, 18, 20) and (y - full).abs().max() < 0.2 * full.abs().max()
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())

    ptqsr.save(quantized, tmp_path / "net.safetensors")
    again = ptqsr.load(tmp_path / "net.safetensors", module=models.wrap(net))
    assert torch.equal(again(x), y)
    deployed = ptqsr.deploy(again)
    fused = {record.layer: record.absorbed for record in deployed.plan.convolutions}
    assert fused["module.grouped"] == ("batch norm", "PReLU", "residual")
    assert fused["module.up.conv"] == ("pixel shuffle 2", "batch norm")
    error = (deployed(x) - y).pow(2).mean()
    assert error < (y - full).pow(2).mean() + 1e-9


def test_edges_leave_transposed_convolutions_alone() -> None:
    config = Config(method="minmax", bits=8, edges=8)
    quantized = ptqsr.calibrate(Tokens(), [torch.rand(1, 3, 12, 14)], config)
    assert type(quantized.module.up) is nn.ConvTranspose2d
    assert isinstance(quantized.module.tail, FakeQuantConv2d)


def test_what_it_costs() -> None:
    network = models.wrap(Tokens())
    config = Config(method="minmax", bits=4)
    quantized = ptqsr.calibrate(network, [torch.rand(1, 3, 12, 14)], config)
    before, after = (cost(net, height=96, width=128) for net in (network, quantized))
    macs = {layer.name: layer.macs for layer in before.layers}
    pixels = 48 * 64
    assert macs["module.full"] == 2 * 64 * pixels and macs["module.wide"] == 96 * pixels
    assert macs["module.up"] == 64 * 16 * pixels
    assert macs == {layer.name: layer.macs for layer in after.layers}
    bits = {layer.name: layer.act_bits for layer in after.layers}
    assert bits["module.full"] == bits["module.grouped"] == 4 and bits["module.up"] == 32
    assert after.fqr == 4
    with pytest.raises(PtqsrError, match=r"layer module\.full: is quantized already"):
        ptqsr.calibrate(quantized, [torch.rand(1, 3, 12, 14)])


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.body, self.tail = (
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 12, 1),
        )
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean.uniform_(-0.5, 0.5)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(nn.functional.pixel_shuffle(self.tail(self.body(self.head(x))), 2))


@torch.no_grad()
def test_batch_norm_after_a_pixel_shuffle() -> None:
    torch.manual_seed(0)
    config = Config(method="minmax", bits=8, edges=8)
    quantized = ptqsr.calibrate(Shuffled(), [torch.rand(1, 3, 12, 14)], config)
    deployed = ptqsr.deploy(quantized)
    assert list(deployed.plan.convolutions)[-1].absorbed == ("pixel shuffle 2", "batch norm")
    x = torch.rand(1, 3, 5, 6)
    assert torch.allclose(deployed(x), quantized(x), atol=1e-5)
