"""What layers are to a network, found by watching one run; modules that are awkward to watch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.modules import FakeQuantConv2d

pytestmark = pytest.mark.usefixtures("one_thread")


def conv(inputs: int, outputs: int, kernel: int = 3, **how: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **how)


class Plain(nn.Module):
    """Head, two residual blocks, a global shortcut, an upsampler, a tail; `block` may be given."""

    def __init__(self, block: nn.Module | None = None) -> None:
        super().__init__()
        self.mean = conv(3, 3, 1)
        self.mean.weight.data = torch.eye(3)[..., None, None]
        self.head, self.tail = conv(3, 8), conv(8, 3)
        self.block = block or nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8))
        self.last, self.up = conv(8, 8), conv(8, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.mean(x))
        y = self.last(x + self.block(x)) + x
        return self.tail(F.pixel_shuffle(self.up(y), 2))


def parts(network: nn.Module) -> dict[str, str]:
    places = models.wrap(network).places()
    return {name.removeprefix("module."): place.part for name, place in places.items()}


def why(network: nn.Module, name: str) -> str:
    return models.wrap(network).places()[f"module.{name}"].why


def test_head_body_and_tail() -> None:
    assert parts(Plain()) == {
        **{"mean": "edge", "head": "edge", "block.0": "body", "block.2": "body", "last": "body"},
        **{"up": "edge", "tail": "edge"},
    }


@pytest.mark.parametrize("enlarge", [2, 3])
def test_the_scale_is_found(enlarge: int) -> None:
    net = nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 3 * enlarge**2), nn.PixelShuffle(enlarge))
    assert models.wrap(net).scale == enlarge
    quantized = ptqsr.calibrate(net, [torch.rand(3, 9, 9)], Config(method="minmax"))
    assert quantized.scale == enlarge
    assert quantized.hyperparameters["scale"] == enlarge
    with pytest.raises(PtqsrError, match="scale is 5; the network's is"):
        ptqsr.calibrate(models.wrap(net), [torch.rand(3, 9, 9)], scale=5)


@torch.inference_mode()
def test_within_inference_mode() -> None:
    network = models.wrap(Inplace())
    assert network.flow is not None and network.flow.input_changed


def test_no_whole_scale() -> None:
    with pytest.raises(PtqsrError, match="makes 31x23 of 64x48 pixels: that is no whole scale"):
        models.wrap(nn.Conv2d(3, 3, 3, stride=2))
    assert models.wrap(nn.Conv2d(3, 3, 3), scale=1).scale == 1


def test_a_plain_stack() -> None:
    """No shortcut: all but the first and what makes the output."""
    net = nn.Sequential(*(conv(3 if i == 0 else 8, 8) for i in range(5)), conv(8, 3))
    assert list(parts(net).values()) == ["edge", *["body"] * 4, "edge"]


def test_a_picture_that_is_enlarged_first() -> None:
    net = nn.Sequential(nn.Upsample(scale_factor=2), conv(3, 8), conv(8, 8), conv(8, 3))
    assert list(parts(net).values()) == ["edge", "body", "edge"]


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.full = conv(8, 8, 1), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * self.gate(pooled) * self.full(pooled.flatten(1))[..., None, None]


class Functional(nn.Module):
    """Weights that are no layer's; a layer's weights, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.rand(8, 8, 3, 3))
        self.tied = conv(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.tied(x), self.kernel + 0, padding=1) + F.conv2d(
            x, self.tied.weight, padding=1
        )


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2)
        return (torch.softmax(tokens @ tokens.mT, -1) @ tokens).view(x.shape)


class Own(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


class Inner(nn.Conv2d):
    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return super()._conv_forward(input, weight * 3, bias)


def patched() -> nn.Module:
    """A convolution whose user gave it another forward."""
    layer = conv(8, 8)
    layer.forward = lambda x: conv_of(layer, x) + 1  # type: ignore[method-assign]
    return nn.Sequential(layer)


def conv_of(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, layer.weight, layer.bias, padding=1)


class Called(nn.Module):
    """Layers that are called as no convolution is: with a size, or the second time on a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv(8, 8, stride=2), nn.ConvTranspose2d(8, 8, 3, 2, 1)
        self.full, self.rows = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.down(x), output_size=x.shape[2:])
        tokens = self.full(x.permute(0, 2, 3, 1)) * self.full(x.mean((2, 3)))[:, None, None]
        return self.rows(tokens.flatten(0, 2)).view(tokens.shape).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """PyTorch's own, which takes its layers' weights past their forward where it can."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.after = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), conv(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(x) + self.layer(x.flatten(2).mT[:, :9]).mean(1)[..., None, None]


class Flat(nn.Module):
    """Another dimension, an input that is no picture, a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.volume, self.table, self.idle = nn.Conv3d(8, 8, 1), nn.Linear(4, 8), conv(8, 8)
        self.unbatched = conv(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.volume(x[..., None])[..., 0] + self.table(torch.ones(1, 1, 4)).mT[..., None]
        return torch.stack([self.unbatched(one) for one in x])


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Gate(), {"gate": ("other", "one value"), "full": ("never", "one value")}),
        (
            Functional(),
            {"": ("never", "weights that are no layer's"), "tied": ("never", "used elsewhere")},
        ),
        (Attention(), {"": ("never", "features by each other")}),
        (Own(8, 8, 1), {"": ("never", "Own computes something else than nn.Conv2d")}),
        (Inner(8, 8, 1), {"": ("never", "Inner computes something else than nn.Conv2d")}),
        (patched(), {"0": ("never", "it computes something else than nn.Conv2d")}),
        (
            Called(),
            {
                "up": ("never", "given more than its input"),
                "full": ("never", "one value of each channel"),
                "rows": ("never", "its input is torch.float32 [3072, 8]"),
            },
        ),
        (
            Encoder(),
            {
                "layer": ("never", "TransformerEncoderLayer has no quantized form"),
                "layer.linear1": ("never", "is part of a TransformerEncoderLayer"),
                "layer.self_attn.out_proj": ("never", "is part of a"),
            },
        ),
        (
            Flat(),
            {
                "volume": ("never", "Conv3d has no quantized form"),
                "table": ("never", "does not depend on the picture"),
                "idle": ("never", "never runs it"),
                "unbatched": ("never", r"its input is torch.float32 [8, 48, 64]"),
            },
        ),
        (
            nn.ConvTranspose2d(8, 8, 3, padding=2, dilation=2),
            {"": ("never", "transposed convolution of dilation 2x2")},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_quantized(
    block: nn.Module, expected: dict[str, tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    network = models.wrap(Plain(block))
    places = network.places()
    for name, (part, words) in expected.items():
        place = places[".".join(filter(None, ("module.block", name)))]
        assert place.part == part and words in place.why
    x = torch.rand(1, 3, 9, 9)
    quantized = ptqsr.calibrate(network, [x], Config(method="minmax", bits=8))
    assert "what cannot be quantized stays in floating point: module.block" in caplog.text
    assert "module.block.idle" not in caplog.text
    y, full = quantized(x), network.eval()(x)
    assert y.shape == (1, 3, 18, 18) and (y - full).abs().max() < 0.1 * full.abs().max()


class Dual(nn.Module):
    """Asks whether it is given a tensor: under tracing it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(8, 8), conv(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) if isinstance(x, torch.Tensor) else self.b(x)


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow = conv(8, 8).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(x.bfloat16()).float()


class Decoder(nn.Module):
    """PyTorch's own, whose linear layers run in integers, and its attention does not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).mT[:, :9]
        return x + self.layer(tokens, tokens).mean(1)[..., None, None]


@torch.no_grad()
@pytest.mark.parametrize(
    ("block", "traced"), [(Dual(), False), (Narrow(), True), (Decoder(), True)]
)
def test_deployed_it_computes_the_same(block: nn.Module, traced: bool) -> None:
    x = torch.rand(1, 3, 9, 9)
    quantized = ptqsr.calibrate(Plain(block), [x], Config(method="minmax", bits=8))
    deployed = ptqsr.deploy(quantized)
    assert (deployed.plan.reason is None) == traced
    assert traced or "give another picture" in str(deployed.plan.reason)
    records = deployed.plan.convolutions if traced else deployed.plan.records
    names = {record.layer for record in records}  # type: ignore[union-attr]
    assert names >= {n for n, m in quantized.named_modules() if isinstance(m, FakeQuantConv2d)}
    assert torch.allclose(deployed(x), quantized(x), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("normed", ["weight_norm", "parametrized"])
def test_weights_that_are_made_of_others_are_saved(normed: str, tmp_path: Path) -> None:
    tools = nn.utils.parametrizations if normed == "parametrized" else nn.utils
    net = Plain(tools.weight_norm(conv(8, 8)))
    x = torch.rand(1, 3, 9, 9)
    quantized = ptqsr.calibrate(net, [x], Config(method="minmax", bits=8))
    ptqsr.save(quantized, tmp_path / "net.safetensors")
    again = ptqsr.load(tmp_path / "net.safetensors", module=models.wrap(net))
    assert torch.equal(again(x), quantized(x))


def outputs(made: Any) -> nn.Module:
    class Made(Plain):
        def forward(self, x: torch.Tensor) -> Any:
            return made(super().forward(x))

    return Made()


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: outputs(lambda y: {"sr": y}), "it gives a dict for"),
        (lambda: outputs(lambda y: (y, y)), "it gives a tuple for"),
        (lambda: outputs(lambda y: y.mean(1, keepdim=True)), r"it gives \[1, 1, 96, 128\] for"),
        (lambda: Plain().half(), r"torch.float16: call \.float\(\) on it"),
        (lambda: Plain(nn.LazyConv2d(8, 1)), "block.weight has no values yet"),
        (lambda: Plain().to("meta"), "mean.weight has no values yet"),
        (lambda: Plain(torch.jit.script(conv(8, 8))), "block is scripted"),
    ],
)
def test_what_cannot_be_wrapped(net: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(PtqsrError, match=f"wrap: .*{words}"):
        models.wrap(net())


def test_what_runs_others_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # It would move its module to the GPU that tests of devices pretend to have.
    where = sys.modules[nn.DataParallel.__module__]  # a function of torch.nn.parallel has that name
    monkeypatch.setattr(where, "_get_available_device_type", lambda: None)
    assert parts(nn.DataParallel(Plain())) == parts(Plain())


def test_pictures_that_a_network_does_not_take() -> None:
    with pytest.raises(PtqsrError, match=r"picture of 9x9 pixels \(.*unshuffle"):
        ptqsr.calibrate(Strict(), [torch.rand(3, 9, 9)])


def test_asked_for_though_it_cannot_be() -> None:
    config = Config(method="minmax", include=("module.block",))
    with pytest.raises(PtqsrError, match=r"layer module\.block: cannot be quantized: Own computes"):
        ptqsr.calibrate(Plain(Own(8, 8, 1)), [torch.rand(3, 9, 9)], config)


def test_a_network_that_does_not_run(caplog: pytest.LogCaptureFixture) -> None:
    network = models.wrap(nn.Conv2d(4, 4, 1), scale=1)
    with pytest.raises(PtqsrError, match="does not run on a picture of 64x48 pixels"):
        ptqsr.calibrate(network, [torch.rand(3, 9, 9)])
    with pytest.raises(PtqsrError, match="the scale cannot be found"):
        models.wrap(nn.Conv2d(4, 4, 1))


class Remade(nn.Module):
    """Re-parameterised, as SPAN: a weight that is the sum of others, made in every run."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.sum = conv(8, 8), conv(8, 8), conv(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.a(x) + self.b(x)
        self.sum.weight.data = self.a.weight.data + self.b.weight.data
        self.sum.bias.data = self.a.bias.data + self.b.bias.data
        return self.sum(x)


@torch.no_grad()
def test_weights_that_the_network_makes_anew() -> None:
    torch.manual_seed(0)
    net = Plain(Remade()).eval()
    x = torch.rand(1, 3, 12, 15)
    network = models.wrap(net)
    assert torch.allclose(network(x), net(x), atol=1e-6)
    assert parts(net)["block.sum"] == "body" and "block.a" not in parts(net)
    quantized = ptqsr.calibrate(net, [x], Config(method="minmax", bits=3))
    y = quantized(x)
    assert torch.equal(quantized(x), y)
    layer = quantized.get_submodule("module.block.sum")
    assert torch.equal(layer.weight, layer.quantized_weight.dequantize())
    assert torch.allclose(ptqsr.deploy(quantized)(x), y, atol=1e-4)


class Untraceable(Remade):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.mean() < 1e9 else x


def test_weights_made_anew_by_a_network_that_cannot_be_traced() -> None:
    assert "makes its weights anew" in why(Plain(Untraceable()), "block.sum")


class Inplace(nn.Module):
    """Changes its input; an activation in place that is read before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act = (
            nn.ModuleList([conv(3, 8), conv(8, 8), conv(8, 8), conv(16, 3)]),
            nn.SiLU(True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x *= 2
        x = self.body[0](x)
        before = self.body[1](x)
        after = self.body[2](self.act(x))
        return self.body[3](torch.cat((before, after + x), 1))


@torch.no_grad()
def test_changes_in_place() -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 9, 11)
    given = picture.clone()
    quantized = ptqsr.calibrate(Inplace(), [given], Config(method="minmax", bits=8))
    y = quantized(given)
    assert torch.equal(given, picture)
    deployed = ptqsr.deploy(quantized)
    assert deployed.plan.reason is None
    assert torch.allclose(deployed(given), y, atol=1e-4)
    assert torch.equal(given, picture)


class Padded(nn.Module):
    """Takes multiples of `size` alone, and asks in every run whether there is anything to pad."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.body = size, nn.Sequential(conv(3, 8), conv(8, 8), conv(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        down, right = -height % self.size, -width % self.size
        if down or right:
            x = F.pad(x, (0, right, 0, down))
        return self.body(x)[:, :, :height, :width]


@torch.no_grad()
def test_conditions_on_the_size() -> None:
    """One that never holds is no hindrance; one that may hold is."""
    x = torch.rand(1, 3, 9, 11)
    for size, traced in ((1, True), (4, False)):
        quantized = ptqsr.calibrate(Padded(size), [x], Config(method="minmax", bits=8))
        deployed = ptqsr.deploy(quantized)
        assert (deployed.plan.reason is None) == traced
        assert torch.allclose(deployed(x), quantized(x), atol=1e-4)


class Strict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.PixelUnshuffle(4), conv(48, 8), conv(8, 8), conv(8, 48))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.body(x), 4)


@torch.no_grad()
def test_multiples() -> None:
    with pytest.raises(PtqsrError, match="give at most 512 pixels"):
        models.wrap(Strict(), multiple_of=1000)
    net = Strict()
    network = models.wrap(net, multiple_of=4)
    x = torch.rand(1, 3, 7, 10)
    padded = F.pad(x, (0, 2, 0, 1), "reflect")
    assert torch.equal(network(x), net(padded)[..., :7, :10])
    assert network(torch.rand(1, 3, 1, 2)).shape == (1, 3, 1, 2)
    quantized = ptqsr.calibrate(network, [x], Config(method="minmax", bits=8))
    deployed = ptqsr.deploy(quantized)
    assert deployed.plan.reason is None
    assert torch.allclose(deployed(x), quantized(x), atol=1e-4)
