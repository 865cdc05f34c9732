"""What users write: every form of a step that can be fused, and those that must not be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ptqsr
from ptqsr import PtqsrError, models
from ptqsr.deployment import describe, plan
from ptqsr.evaluation import cost
from ptqsr.lowering import Float
from ptqsr.modules import FakeQuantConv2d, QuantConv2d
from ptqsr.upscaling import Planner

from .cases import METHODS, by_layer, psnr, records, wrapped

pytestmark = pytest.mark.usefixtures("one_thread")
X = torch.rand(2, 3, 11, 12, generator=torch.Generator().manual_seed(5))


class Middle(nn.Module):
    """A head, quantized convolutions `a` and `b`, steps of the test's, and a tail."""

    def __init__(self, steps: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.steps = steps
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.tail = nn.Conv2d(8, 3, 3, padding=1)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.steps(self, self.head(x)))


def norm(**options: Any) -> nn.Module:
    layer = nn.BatchNorm2d(8, **options).eval()
    torch.manual_seed(2)
    if layer.affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    layer.running_var.uniform_(0.3, 3)
    layer.running_mean.normal_()
    return layer


def slopes(count: int) -> nn.Module:
    layer = nn.PReLU(count)
    nn.init.uniform_(layer.weight, -0.5, 0.5)
    return layer


FUSED: dict[str, tuple[Callable[..., torch.Tensor], dict[str, nn.Module], tuple[str, ...]]] = {
    "relu module": (lambda m, x: m.act(m.a(x)), {"act": nn.ReLU(inplace=True)}, ("ReLU",)),
    "relu function": (lambda m, x: F.relu(m.a(x), inplace=True), {}, ("ReLU",)),
    "torch.relu": (lambda m, x: torch.relu(m.a(x)), {}, ("ReLU",)),
    "relu method": (lambda m, x: m.a(x).relu(), {}, ("ReLU",)),
    "relu_ method": (lambda m, x: m.a(x).relu_(), {}, ("ReLU",)),
    "leaky module": (lambda m, x: m.act(m.a(x)), {"act": nn.LeakyReLU(0.2)}, ("leaky ReLU 0.2",)),
    "leaky function": (lambda m, x: F.leaky_relu(m.a(x), 0.1), {}, ("leaky ReLU 0.1",)),
    "leaky default": (lambda m, x: F.leaky_relu(m.a(x)), {}, ("leaky ReLU 0.01",)),
    "one slope": (lambda m, x: m.act(m.a(x)), {"act": slopes(1)}, ("PReLU",)),
    "slopes": (lambda m, x: m.act(m.a(x)), {"act": slopes(8)}, ("PReLU",)),
    "prelu function": (lambda m, x: F.prelu(m.a(x), m.act.weight), {"act": slopes(8)}, ("PReLU",)),
    "norm": (lambda m, x: m.norm(m.a(x)), {"norm": norm()}, ("batch norm",)),
    "plain norm": (lambda m, x: m.norm(m.a(x)), {"norm": norm(affine=False)}, ("batch norm",)),
    "norm, factor, relu": (
        lambda m, x: (m.norm(m.a(x)) * 0.5).relu(),
        {"norm": norm()},
        ("batch norm", "factor 0.5", "ReLU"),
    ),
    "factor first": (lambda m, x: 2 * m.a(x), {}, ("factor 2",)),
    "torch.mul": (lambda m, x: torch.mul(m.a(x), -0.5), {}, ("factor -0.5",)),
    "divisor": (lambda m, x: m.a(x) / 4, {}, ("divisor 4",)),
    "add": (lambda m, x: m.a(x) + x, {}, ("residual",)),
    "add first": (lambda m, x: x + m.a(x), {}, ("residual",)),
    "torch.add": (lambda m, x: torch.add(x, m.a(x)), {}, ("residual",)),
    "add method": (lambda m, x: m.a(x).add(x), {}, ("residual",)),
    "add_ method": (lambda m, x: m.a(x).add_(x), {}, ("residual",)),
    "add, relu": (lambda m, x: (m.a(x) + x).relu(), {}, ("residual", "ReLU")),
    "relu, add, relu": (
        lambda m, x: F.relu(F.relu(m.a(x)) + x),
        {},
        ("ReLU", "residual", "ReLU"),
    ),
    "scaled residual": (lambda m, x: x + m.a(x) * 0.1, {}, ("factor 0.1", "residual")),
}


@pytest.mark.parametrize("method", ["minmax8", "dfsq4"])
@pytest.mark.parametrize("name", FUSED)
@torch.no_grad()
def test_fused(name: str, method: str) -> None:
    steps, layers, absorbed = FUSED[name]
    fake = wrapped(Middle(steps, **layers), method, include=("module.a",), exclude=("module.b",))
    ours = ptqsr.deploy(fake)
    assert by_layer(ours)["module.a"].absorbed == absorbed
    # The head and the tail alone are left.
    assert len(records(ours, Float)) == 2
    assert psnr(ours(X), fake(X)) > (110 if method == "minmax8" else 45)


@pytest.mark.parametrize(
    "order, absorbed",
    [
        ("shuffle, activation", ("pixel shuffle 2", "leaky ReLU 0.1")),
        ("activation, shuffle", ("leaky ReLU 0.1", "pixel shuffle 2")),
        ("shuffle, slopes", ("pixel shuffle 2",)),
        ("shuffle, factor, add", ("pixel shuffle 2", "factor 0.5")),
        ("add, shuffle", ("residual",)),
    ],
)
@torch.no_grad()
def test_pixel_shuffle(order: str, absorbed: tuple[str, ...]) -> None:
    def steps(m: Any, x: torch.Tensor) -> torch.Tensor:
        wide = m.wide(m.a(x))
        y = {
            "shuffle, activation": lambda: F.leaky_relu(F.pixel_shuffle(wide, 2), 0.1),
            "activation, shuffle": lambda: m.up(F.leaky_relu(wide, 0.1)),
            "shuffle, slopes": lambda: m.slopes(m.up(wide)),
            "shuffle, factor, add": lambda: torch.pixel_shuffle(wide, 2) * 0.5 + 1.0,
            "add, shuffle": lambda: m.up(wide + torch.cat([x] * 4, 1)),
        }[order]()
        return F.avg_pool2d(y, 2)

    torch.manual_seed(1)
    layers = {"wide": nn.Conv2d(8, 32, 3, padding=1), "up": nn.PixelShuffle(2), "slopes": slopes(8)}
    module = Middle(steps, **layers)
    fake = wrapped(module, "dfsq4", include=("module.wide",), exclude=("module.b", "module.tail"))
    ours = ptqsr.deploy(fake)
    assert by_layer(ours)["module.wide"].absorbed == absorbed
    assert psnr(ours(X), fake(X)) > 45


NOT_FUSED: dict[str, tuple[Callable[..., torch.Tensor], dict[str, nn.Module], tuple[str, ...]]] = {
    "read twice": (lambda m, x: (lambda y: m.b(y) + y.relu())(m.a(x)), {}, ()),
    "result and its relu": (lambda m, x: (lambda y: y * y.sigmoid())(m.a(x)), {}, ()),
    "added to itself": (lambda m, x: (lambda y: y + y)(m.a(x)), {}, ()),
    "added with alpha": (lambda m, x: torch.add(x, m.a(x), alpha=2), {}, ()),
    "broadcast": (lambda m, x: m.a(x) + x.mean((2, 3), keepdim=True), {}, ()),
    "a parameter": (lambda m, x: m.a(x) + m.norm.weight.view(8, 1, 1), {"norm": norm()}, ()),
    "other activations": (lambda m, x: F.relu6(m.a(x)), {}, ()),
    "norm after relu": (lambda m, x: m.norm(m.a(x).relu()), {"norm": norm()}, ("ReLU",)),
    "norm after addition": (lambda m, x: m.norm(m.a(x) + x), {"norm": norm()}, ("residual",)),
    "factor after relu": (lambda m, x: m.a(x).relu() * 2, {}, ("ReLU",)),
    "constant divided": (lambda m, x: 1 / (m.a(x).relu() + 2), {}, ("ReLU",)),
    "added twice": (lambda m, x: m.a(x) + x + x, {}, ("residual",)),
}


@pytest.mark.parametrize("name", NOT_FUSED)
@torch.no_grad()
def test_not_fused(name: str) -> None:
    steps, layers, absorbed = NOT_FUSED[name]
    fake = wrapped(Middle(steps, **layers), "minmax8", exclude=("module.b",))
    ours = ptqsr.deploy(fake)
    assert by_layer(ours)["module.a"].absorbed == absorbed
    assert psnr(ours(X), fake(X)) > 100


@pytest.mark.parametrize("method", ["minmax8", "dfsq4"])
@torch.no_grad()
def test_two_convolutions_added(method: str) -> None:
    """One takes the addition, the other is what it adds."""
    fake = wrapped(Middle(lambda m, x: F.relu(m.a(x).relu() + m.b(x))), method)
    ours = ptqsr.deploy(fake)
    layers = by_layer(ours)
    assert layers["module.a"].absorbed == ("ReLU", "residual", "ReLU")
    assert layers["module.b"].absorbed == () and layers["module.a"].residual == "module_b"
    # Both read the head's result: it is encoded once.
    assert all(layers[f"module.{x}"].sources[0].is_codes for x in "ab")
    assert psnr(ours(X), fake(X)) > (100 if method == "minmax8" else 45)


HALF, SINGLE = torch.float16, torch.float32
# Steps between the head and the tail, and how the results of `a` and `b` are stored.
STORED = {
    "read once": (lambda m, x: m.b(m.a(x).relu()), HALF, SINGLE),
    "added to the other": (lambda m, x: m.b(y := m.a(x)) + y, HALF, SINGLE),
    "side by side": (lambda m, x: m.c(torch.cat((m.a(x), m.b(x)), 1)), HALF, HALF),
    "side by side, and added": (
        lambda m, x: m.c(y := torch.cat((m.a(x), m.b(x)), 1)) + y, HALF, HALF
    ),
    "beside a float": (lambda m, x: m.c(torch.cat((m.b(m.a(x)), x), 1)), HALF, HALF),
    "encoded once for two": (lambda m, x: m.b(y := m.a(x)) + m.d(y), SINGLE, SINGLE),
    "changed in place": (lambda m, x: m.b(m.a(x).add_(x.mean())), SINGLE, SINGLE),
    "seen through a view": (lambda m, x: m.b(m.a(x).view(x.shape)), SINGLE, SINGLE),
    "sliced": (lambda m, x: m.b(torch.cat((m.a(x)[:, :4], x[:, 4:]), 1)), SINGLE, SINGLE),
    "read by PyTorch too": (lambda m, x: m.b(y := m.a(x)) + y.tanh(), SINGLE, SINGLE),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
@torch.no_grad()
def test_what_is_float16(name: str) -> None:
    """Results that no step but integer convolutions sees; the others stay float32."""
    steps, a, b = STORED[name]
    used, extra = steps.__code__.co_names, {}
    if "c" in used:
        extra["c"] = nn.Conv2d(16, 16, 3, padding=1)
    if "d" in used:
        extra["d"] = nn.Conv2d(8, 8, 3, padding=1)
    include = tuple(f"module.{layer}" for layer in ("a", "b", *extra))
    fake = wrapped(Middle(lambda m, x: steps(m, x)[:, :8], **extra), "dfsq4", include=include)
    ours = ptqsr.deploy(fake)
    layers = by_layer(ours)
    assert (layers["module.a"].dtype, layers["module.b"].dtype) == (a, b)
    assert ours(X).dtype == SINGLE and psnr(ours(X), fake(X)) > 30


@pytest.mark.parametrize("gain, sound", [(1e-3, True), (1e3, True), (1e6, False)])
@torch.no_grad()
def test_what_float16_does_not_hold(gain: float, sound: bool) -> None:
    """Too large is not wrong but NaN, and float32 is at hand."""
    module = Middle(lambda m, x: m.b(m.a(x)))
    for parameter in module.a.parameters():
        parameter.mul_(gain)
    module.b.weight.div_(gain)
    fake = wrapped(module, "dfsq4")
    y = ptqsr.deploy(fake)(X)
    assert psnr(y, fake(X)) > 35 if sound else y.isnan().all()
    assert psnr(ptqsr.deploy(fake, between=torch.float32)(X), fake(X)) > 35


@pytest.mark.parametrize("method", ["minmax8", "dfsq4"])
@torch.no_grad()
def test_inputs_by_name(method: str) -> None:
    fake = wrapped(Middle(lambda m, x: m.b(input=m.a(input=x))), method)
    ours = ptqsr.deploy(fake)
    assert len(by_layer(ours)) == 2 and cost(fake).bitops > 0
    assert psnr(ours(X), fake(X)) > (100 if method == "minmax8" else 45)


@torch.no_grad()
def test_channels_through_every_kind_of_slice() -> None:
    def steps(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        one, two = y.chunk(2, dim=1)
        three, four = torch.split(y, [2, 6], 1)
        five = torch.narrow(torch.cat((two, y[:, 1:3], one), 1), 1, 3, 5)
        cat = torch.cat((four[:, :1], five, y[:, -2:]), dim=-3)
        return m.b(cat) + m.b(torch.concat([three, four], 1))

    fake = wrapped(Middle(steps), "dfsq4")
    ours = ptqsr.deploy(fake)
    assert by_layer(ours)["module.a"].statistics
    # Every statistic comes from the convolution: one pass, over the head's result.
    assert [row["layer"] for row in describe(ours.plan) if row["how"] == "pass"][0] == (
        "statistics of module_head"
    )
    assert sum("statistics of" in row["layer"] for row in describe(ours.plan)) == 1
    assert psnr(ours(X), fake(X)) > 45


@pytest.mark.parametrize("padding", [0, (2, 1), "same", "valid"], ids=str)
@pytest.mark.parametrize("method", ["minmax8", "dfsq4"])
@torch.no_grad()
def test_geometries(padding: Any, method: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 4, (3, 5), padding=padding, dilation=(2, 1), groups=2, bias=False)
    resize = nn.AdaptiveAvgPool2d((11, 12))
    module = nn.Sequential(nn.Conv2d(3, 8, 1), layer, resize, nn.Conv2d(4, 3, 1))
    network = models.wrap(module, scale=1)
    fake = ptqsr.calibrate(network, [X[:1]], METHODS[method])
    ours = ptqsr.deploy(fake)
    assert by_layer(ours).keys() == {"module.1"}
    assert psnr(ours(X), fake(X)) > (100 if method == "minmax8" else 45)


def test_layers_without_integers_stay_visible() -> None:
    class Reflecting(Middle):
        def __init__(self) -> None:
            super().__init__(lambda m, x: m.c(m.b(m.a(x).relu()).relu()))
            self.b = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
            self.c = nn.Conv2d(8, 8, 2, padding="same")

    fake = wrapped(Reflecting(), "minmax8", include=("module.c",))
    ours = ptqsr.deploy(fake)
    rows = {row["layer"]: row for row in describe(ours.plan)}
    assert rows["module.a"]["how"] == "int8 uniform"
    assert rows["module.b"]["remark"] == "padding mode reflect: simulated in PyTorch float32"
    assert "padding same of an even kernel" in rows["module.c"]["remark"]
    with torch.no_grad():
        assert psnr(ours(X), fake(X)) > 100


def test_sets_that_are_not_int8_are_refused() -> None:
    module = Middle(lambda m, x: m.b(m.a(x).relu()))
    fake = wrapped(module, "dfsq4", universal_set="dfsq-code")
    with pytest.raises(PtqsrError, match=r"module\.a: universal set dfsq-code is not int8"):
        ptqsr.deploy(fake)
    assert "dfsq-code is not int8" in describe(plan(fake))[1]["remark"]


def test_bad_networks() -> None:
    with pytest.raises(PtqsrError, match="calibrate it first"):
        ptqsr.deploy(models.build("edsr", weights=None, blocks=1, width=8))
    with pytest.raises(PtqsrError, match="wrap it"):
        ptqsr.deploy(nn.Conv2d(3, 3, 3))  # type: ignore[arg-type]
    fake = wrapped(Middle(lambda m, x: m.b(m.a(x))), "minmax8")
    with pytest.raises(PtqsrError, match="deployed already"):
        ptqsr.deploy(ptqsr.deploy(fake))
    for refuse in (ptqsr.deploy, plan):
        with pytest.raises(PtqsrError, match=r"between is torch\.bfloat16"):
            refuse(fake, between=torch.bfloat16)


def branching(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.b(m.a(x).relu()) if x.mean() > 1e9 else m.a(m.b(x).relu())


def changing(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.a(x)
    z = m.b(x)
    x.relu_()
    return y + z + x


@pytest.mark.parametrize("method", ["minmax8", "dfsq4"])
@torch.no_grad()
def test_a_tensor_changed_while_others_read_it(method: str) -> None:
    """Those before read what it was, those after what it has become."""
    fake = wrapped(Middle(changing), method)
    ours = ptqsr.deploy(fake)
    assert ours.plan.reason is None and by_layer(ours).keys() == {"module.a", "module.b"}
    assert psnr(ours(X), fake(X)) > (100 if method == "minmax8" else 45)


def changing_a_view(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.b(m.a(x))
    y[:, :2].mul_(3)
    return y


@pytest.mark.parametrize("method", ["minmax8", "dfsq4"])
@pytest.mark.parametrize("steps", [branching, changing_a_view])
@torch.no_grad()
def test_what_cannot_be_traced(
    steps: Callable[..., torch.Tensor], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake = wrapped(Middle(steps), method)
    with caplog.at_level(logging.WARNING, "ptqsr"):
        ours = ptqsr.deploy(fake)
    assert "cannot be traced" in caplog.text and "one by one" in caplog.text
    assert ours.plan.reason and ours.plan.reason in caplog.text
    if steps is not branching:
        assert "is changed in place" in ours.plan.reason
    swapped = {n for n, m in ours.named_modules() if isinstance(m, QuantConv2d)}
    assert swapped == {"store.module.a", "store.module.b"}
    assert sum(isinstance(m, FakeQuantConv2d) for m in fake.modules()) == 2
    assert psnr(ours(X), fake(X)) > (90 if method == "minmax8" else 40)
    x = X[:1]
    assert torch.equal(ours.reconstruct(x, ours.features(x)), ours(x))
    rows = describe(ours.plan)
    assert [
        row["layer"][-1]
        for row in rows
        if row["remark"] == "by itself" or "by itself;" in row["remark"]
    ] == ["a", "b"]
    assert [row["how"] for row in rows].count("float") == 2
    if steps is not branching:  # which takes values, and upscaling asks with shapes alone
        assert Planner(ours).plan(20, 30).exact


def test_drop_ins_without_integers_stay_visible() -> None:
    module = Middle(branching)
    module.b = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
    ours = ptqsr.deploy(wrapped(module, "minmax8", include=("module.b",)))
    remarks = {row["layer"]: row["remark"] for row in describe(ours.plan)}
    assert remarks["module.b"] == "padding mode circular: simulated in PyTorch float32"
    assert remarks["module.a"].startswith("by itself")
    assert isinstance(ours.store.module.b, FakeQuantConv2d)


@torch.no_grad()
def test_harmless_changes_in_place_are_lowered() -> None:
    def steps(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        y += x
        y = F.relu_(y)
        z = torch.sigmoid(m.b(y))
        return z.mul_(2).add_(y)

    fake = wrapped(Middle(steps), "minmax8")
    ours = ptqsr.deploy(fake)
    assert ours.plan.reason is None
    assert by_layer(ours)["module.a"].absorbed == ("residual", "ReLU")
    assert psnr(ours(X), fake(X)) > 100
    before = X.clone()
    ours(X)
    assert torch.equal(X, before)


@torch.no_grad()
def test_two_outputs() -> None:
    pair = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1))
    fake = ptqsr.calibrate(models.wrap(pair, scale=1), [X[:1]], METHODS["minmax8"])
    fake.module = Twice(fake.module)
    ours = ptqsr.deploy(fake)
    assert ours.plan.reason == "the network gives something else than one tensor"
    assert len(ours(X)) == 2


class Twice(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.module(x)
        return y, y + 1
