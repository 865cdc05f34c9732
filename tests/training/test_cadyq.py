"""CADyQ on small networks: what it chooses, what it learns by, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_photograph

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.deployment import describe
from ptqsr.evaluation import cost, draw_bits, recording_bits
from ptqsr.models import PatchWise, SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import PatchGradient, SelectedQuantizer, choosers, width
from ptqsr.quantizers.choosing import features, mean_gradient
from ptqsr.training import TrainConfig, Trainer
from ptqsr.training.methods import CHECKPOINT, PAMS, CADyQ, Options, Selection
from ptqsr.training.methods.distillation import bit_loss, feature_transfer
from ptqsr.training.trainable import (
    SelectingQuantizer,
    Selector,
    layers_of,
    quantizers_of,
    select,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = TrainConfig(
    steps=4,
    batch_size=2,
    patch_size=8,
    warmup=0,
    learning_rate=1e-3,
    clip=math.inf,
    ema=0.0,
    validation_images=1,
    validate_every=2,
    precision="fp32",
)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "edsr": ("edsr", dict(blocks=2, width=8)),
    "rdn": ("rdn", dict(blocks=1, layers=2, growth=8, width=8)),
    "carn": ("carn", dict(width=8)),
    "carn_m": ("carn_m", dict(width=8)),
    "idn_y": ("idn", dict(width=16, colours="y")),
}


def network(name: str = "edsr") -> SRNetwork:
    torch.manual_seed(0)
    architecture, hyperparameters = NETWORKS[name]
    return models.build(architecture, scale=2, weights=None, **hyperparameters)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [write_photograph(tmp_path / f"{i}.png", 40 + i, 50 - i, i) for i in range(3)]


def taught(
    pictures: list[Path], run: Path, name: str = "edsr", bits: int = 8, **config: Any
) -> Path:
    hook = PAMS(Options(Config(method="pams", bits=bits), init_batches=2))
    trainer = Trainer(network(name), pictures, replace(CONFIG, **{"steps": 2, **config}), run, hook)
    trainer.train()
    return run


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the run that teaches a network, trained once."""
    folder = tmp_path_factory.mktemp("teachers")
    pictures = [write_photograph(folder / f"{i}.png", 40 + i, 50 - i, i) for i in range(3)]

    @cache
    def teacher(name: str) -> Path:
        return taught(pictures, folder / name, name)

    return teacher


@pytest.fixture
def teacher(teachers: Callable[[str], Path]) -> Path:
    return teachers("edsr")


def hook(teacher: Path, **selection: Any) -> CADyQ:
    quantization = Config(method="cadyq", bits=8)
    return CADyQ(Options(quantization, selection=Selection(teacher, **selection)))


def trained(
    pictures: list[Path], run: Path, made: CADyQ, name: str = "edsr", **config: Any
) -> Trainer:
    trainer = Trainer(network(name), pictures, replace(CONFIG, **config), run, made)
    trainer.train()
    return trainer


def batch(of: SRNetwork) -> torch.Tensor:
    """Four pictures, from flat to rough."""
    x = torch.rand(4, 1 if of.colours == "y" else 3, 11, 13, generator=torch.Generator())
    x = x * torch.tensor([0.02, 0.3, 0.45, 1.0]).view(4, 1, 1, 1)
    return x.contiguous(memory_format=torch.channels_last)


def mix(made: SRNetwork) -> None:
    """Make rough pictures and features choose more bits than flat ones, in every layer."""
    for quantizer in [q for q in made.modules() if isinstance(q, SelectedQuantizer)]:
        quantizer.weight.zero_()
        if quantizer.weight.shape[1] < 2:
            continue
        quantizer.weight[1, :2] = 0.02
        quantizer.weight[2, :2] = 0.04
        quantizer.bias.copy_(torch.tensor([2.0, 1.0, -0.5]))


def choose_by_picture(made: SRNetwork) -> None:
    """The same, of a network that is trained."""
    for quantizer in quantizers_of(made):
        if isinstance(quantizer, SelectingQuantizer):
            selector = quantizer.selector
            selector.weight.data.zero_()
            selector.weight.data[1, :2], selector.weight.data[2, :2] = 0.02, 0.04
            selector.bias.data.copy_(torch.tensor([2.0, 1.0, -0.5]))


# --- what is chosen by ---


def test_gradient_of_a_slope() -> None:
    x = torch.zeros(2, 3, 5, 7)
    x[0] += torch.arange(7) * 0.01
    x[1] += (torch.arange(5) * 0.02).view(5, 1)
    # Of 7 columns the outer two see half of the slope; of 5 rows too.
    wanted = [[1000 * 0.01 * 6 / 7, 0], [0, 1000 * 0.02 * 4 / 5]]
    torch.testing.assert_close(mean_gradient(x), torch.tensor(wanted), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(mean_gradient(x[:, :1]), mean_gradient(x))
    assert mean_gradient(x[:, :, :1, :1]).tolist() == [[0, 0], [0, 0]]


def test_selector_starts_at_the_most_bits() -> None:
    selector = Selector(3, 4, "both")
    selector.gradient.look(torch.rand(2, 3, 6, 6))
    found = selector(torch.rand(2, 4, 6, 6) * 9)
    assert found.shape == (2, 3) and found.argmax(1).tolist() == [2, 2]
    torch.testing.assert_close(found[:, 2] - found[:, 0], torch.ones(2), rtol=0, atol=1e-3)
    assert Selector(3, 4, "layer").weight.shape == (3, 0)
    assert Selector(3, 4, "patch").weight.shape == (3, 2)


def test_other_measures() -> None:
    """CADyQ, Table 3: by hand, of a picture and a feature with two values each."""
    gradient = PatchGradient()
    picture = torch.zeros(1, 3, 4, 4)
    picture[..., :2] = 0.6
    gradient.look(picture)
    x = torch.zeros(1, 2, 4, 4)
    x[:, 1] = 5
    x[:, 1, 0, 0] = 6

    def seen(by: str) -> list[float]:
        found = features(x, gradient, by)
        assert found.shape == (1, width(by, 2))
        return [round(v, 3) for v in found[0].tolist()]

    across = 1000 * 0.3 * 2 / 4
    spread = round(float(x.std(unbiased=False)), 3)
    assert seen("both") == [across, 0, 0, round((1 / 16 - 1 / 256) ** 0.5, 3)]
    assert seen("range") == [153, 6]
    assert seen("std") == [76.5, spread]
    assert seen("layer-std") == [across, 0, spread]


def test_outside_of_a_network_nothing_is_chosen() -> None:
    with pytest.raises(PtqsrError, match="inside of their network"):
        Selector(3, 4, "both")(torch.rand(2, 4, 6, 6))


# --- gradients ---


def test_gradients_are_those_of_the_relaxed_function() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 4, 4)
    pictures = torch.rand(3, 3, 4, 4) * torch.tensor([0.0, 0.4, 1.0]).view(3, 1, 1, 1)
    selector = Selector(3, 2, "both")
    selector.gradient.look(pictures)
    with torch.no_grad():
        selector.weight.copy_(torch.randn(3, 4) * 0.001)
        selector.weight[1, :2] += 0.02
        selector.weight[2, :2] += 0.04
        selector.bias.copy_(torch.tensor([2.0, 1.0, -0.5]))
    made = SelectingQuantizer((2, 3, 4), selector).train()
    for quantizer in made.quantizers:
        quantizer.observe(x)
    target = torch.randn_like(x)
    result = made(x)
    ((chosen, expected),) = made.choices
    bits = torch.tensor([2.0, 3.0, 4.0])
    numbers = selector(x).argmax(1)
    assert torch.equal(chosen, bits[numbers])
    each = [quantizer(x).detach().double() for quantizer in made.quantizers]
    assert len(set(numbers.tolist())) > 1, "the samples should choose differently"
    for i, number in enumerate(numbers.tolist()):
        assert torch.equal(result[i].double(), each[number][i])
    loss = (result * target).sum() + (chosen * torch.tensor([1.0, -2.0, 3.0])).sum()
    loss.backward()

    def relaxed(weight: torch.Tensor, bias: torch.Tensor) -> float:
        deviation = x.double().var((2, 3), unbiased=False).sqrt()
        picture = selector.gradient.value[:, :2].double()  # type: ignore[index]
        seen = torch.cat((picture, deviation), 1)
        p = (seen @ weight.T + bias).softmax(1)
        y = sum(p[:, k].view(3, 1, 1, 1) * each[k] for k in range(3))
        b = (p * bits.double()).sum(1)
        return float((y * target).sum() + (b * torch.tensor([1.0, -2.0, 3.0])).sum())  # type: ignore[union-attr]

    weight, bias = selector.weight.detach().double(), selector.bias.detach().double()
    step = 1e-6
    for parameter, place in ((weight, (0, 1)), (weight, (2, 3)), (bias, (1,))):
        gradient = (selector.weight if parameter is weight else selector.bias).grad
        assert gradient is not None
        values = []
        for sign in (1, -1):
            parameter[place] += sign * step
            values.append(relaxed(weight, bias))
            parameter[place] -= sign * step
        difference = (values[0] - values[1]) / (2 * step)
        assert float(gradient[place]) == pytest.approx(difference, rel=1e-3, abs=1e-4)
    assert not expected.requires_grad


def test_gradients_of_scales_and_features() -> None:
    """Every candidate's, times its probability, whichever was chosen."""
    x = torch.tensor([[-9.0, -1.0, 0.5, 3.0], [0.2, 5.0, -4.0, 1.0]]).view(2, 1, 1, 4)
    x.requires_grad_()
    selector = Selector(2, 1, "layer")
    with torch.no_grad():
        selector.bias.copy_(torch.tensor([1.0, 3.0]).log())  # probabilities 1/4 and 3/4
    made = SelectingQuantizer((2, 8), selector).train()
    for quantizer, alpha in zip(made.quantizers, (2.0, 4.5), strict=True):
        quantizer.start.fill_(alpha / 3)
        quantizer.theta.data.fill_(3)
    weight = torch.arange(1.0, 9.0).view(2, 1, 1, 4)
    (made(x) * weight).sum().backward()
    # Of 2: below are places 0 and 6, above 3 and 5; of 4.5: below 0, above 5.
    grads = [float(q.theta.grad) for q in made.quantizers]  # type: ignore[arg-type]
    assert grads[0] == pytest.approx(0.25 * 2 / 3 * (-1 - 7 + 4 + 6))
    assert grads[1] == pytest.approx(0.75 * 4.5 / 3 * (-1 + 6))
    inside = torch.tensor([[0.0, 1, 1, 0.75], [1, 0, 0.75, 1]]).view(2, 1, 1, 4)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, inside * weight)


def test_what_is_selected_gets_its_share_of_the_gradient() -> None:
    p = torch.tensor([[0.2, 0.8]], requires_grad=True)
    made = [torch.full((1, 1, 1, 2), v, requires_grad=True) for v in (3.0, 5.0)]
    result = select(p, torch.tensor([1]), made)
    assert result.flatten().tolist() == [5, 5]
    result.backward(torch.tensor([[[[1.0, 10.0]]]]))
    assert made[0].grad is not None and made[1].grad is not None and p.grad is not None
    torch.testing.assert_close(made[0].grad.flatten(), torch.tensor([0.2, 2.0]))
    torch.testing.assert_close(made[1].grad.flatten(), torch.tensor([0.8, 8.0]))
    assert p.grad.tolist() == [[33, 55]]


# --- losses ---


def test_bit_losses_by_hand() -> None:
    chosen, expected = torch.tensor([8.0, 4.0]), torch.tensor([7.0, 5.0], requires_grad=True)
    assert float(bit_loss(chosen, None)) == 6
    weighted = bit_loss(chosen, expected)
    assert float(weighted.detach()) == pytest.approx((8 / 7 + 4 / 5) / 2)
    assert not weighted.requires_grad  # the expected bits have no gradient


def test_feature_transfer_by_hand() -> None:
    ours = {"a": [torch.tensor([[1.0, 0.0]])], "b": [torch.zeros(1, 2), torch.ones(1, 2)]}
    theirs = {"a": [torch.tensor([[0.0, 0.0]])], "b": [torch.zeros(1, 2), torch.zeros(1, 2)]}
    assert float(feature_transfer(ours, theirs)) == pytest.approx((0.5 + 0 + 1) / 3)


def test_weight_of_the_bits_depends_on_the_step_alone() -> None:
    chosen = Selection(Path(), bit_weight=1e-4, bit_weight_growth=1e-6)
    assert chosen.bit_weight_at(0) == 1e-4
    assert chosen.bit_weight_at(2500) == pytest.approx(1.025e-4)


def test_the_loss_is_its_parts(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    made = hook(teacher, bit_weight=0.5, bit_weight_growth=0)
    trainer = Trainer(network(), pictures, CONFIG, tmp_path / "run", made)
    lr, hr = (trainer._floats(crop) for crop in trainer.sampler.batch(0))
    loss, figures = made.loss(trainer.network, lr, hr, 0)
    parts = figures["l1"] + 0.5 * figures["bit_loss"]
    parts += 1000 * figures["kd"] + 100 * figures["kdf"]
    assert float(loss.detach()) == pytest.approx(float(parts), rel=1e-5)
    made.frozen(trainer.network)  # nothing is left that has a graph
    assert figures["fqr"] == 8
    # All layers are alike: work 1, and everywhere 8 bits of the same expectation.
    expected = 8 / (sum(b * math.exp(b == 8) for b in (4, 6, 8)) / (2 + math.e))
    assert float(figures["bit_loss"]) == pytest.approx(4 * expected, rel=1e-4)


# --- from the teacher to the checkpoint ---


def test_it_starts_as_its_teacher(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    made = hook(teacher)
    trainer = Trainer(network(), pictures, CONFIG, tmp_path / "run", made)
    x = batch(trainer.network)
    trainer.network.eval()
    with torch.no_grad():
        assert torch.equal(trainer.network(x), made.taught(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(
    pictures: list[Path], tmp_path: Path, name: str, teachers: Callable[[str], Path]
) -> None:
    """Frozen is trainable, saved is frozen, deployed is saved; whatever is chosen."""
    made = hook(teachers(name))
    trainer = trained(pictures, tmp_path / "run", made, name, steps=2)
    choose_by_picture(trainer.average)
    frozen = made.frozen(trainer.average)
    x = batch(frozen)
    path = tmp_path / "made.safetensors"
    ptqsr.save(frozen, path)
    with torch.no_grad():
        wanted = frozen(x)
        assert torch.equal(trainer.average(x), wanted)
        with recording_bits(frozen) as chosen:
            frozen(x)
        assert {bits for layer in chosen.values() for bits in layer} == {4, 6, 8}
        # Of the same memory layout too: PyTorch adds up in an order that depends on it.
        loaded = ptqsr.load(path).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        assert torch.equal(loaded(x), wanted)
        assert loaded.calibration == frozen.calibration
        # One by one: the same bits, and the same picture but for rounding.
        for i in range(len(x)):
            torch.testing.assert_close(frozen(x[i : i + 1]), wanted[i : i + 1], rtol=0, atol=1e-4)
        deployed = ptqsr.deploy(loaded)
        with recording_bits(deployed) as in_integers:
            result = deployed(x)
        assert in_integers == chosen
        torch.testing.assert_close(result, wanted, rtol=0, atol=1e-4)
    rows = [row for row in describe(deployed.plan) if row["how"] == "int8 uniform"]
    assert {row["layer"] for row in rows} == set(choosers(frozen))
    assert "every sample chooses 4 or 6 or 8 bits" in rows[0]["remark"]


@pytest.mark.parametrize("wanted", [{"include": ("tail.*",), "exclude": ("body.*",)}, {}])
def test_layers_that_enlarge(pictures: list[Path], tmp_path: Path, wanted: dict[str, Any]) -> None:
    """Convolutions after the features, and transposed ones, which are trained as convolutions."""
    name = "edsr" if wanted else "idn_y"
    wanted = wanted or {"include": ("upsample*",)}
    pams = PAMS(Options(Config(method="pams", bits=8, **wanted), init_batches=2))
    config = replace(CONFIG, steps=2)
    Trainer(network(name), pictures, config, tmp_path / "teacher", pams).train()
    made = hook(tmp_path / "teacher")
    made = CADyQ(replace(made.options, quantization=Config(method="cadyq", bits=8, **wanted)))
    trainer = trained(pictures, tmp_path / "run", made, name, steps=2)
    assert set(made.work) == set(layers_of(trainer.network))
    assert choosers(ptqsr.load(tmp_path / "run" / CHECKPOINT))


@pytest.mark.parametrize(
    ("by", "unsigned"),
    [("layer", False), ("patch", True), ("range", True), ("std", False), ("layer-std", True)],
)
def test_other_choices(
    pictures: list[Path], tmp_path: Path, by: str, unsigned: bool, teacher: Path
) -> None:
    made = hook(teacher, choose_by=by, unsigned_after_relu=unsigned)
    trainer = trained(pictures, tmp_path / "run", made, steps=2)
    selectors = {id(m) for m in trainer.network.modules() if isinstance(m, Selector)}
    assert len(selectors) == (1 if by == "patch" else 4)
    loaded = ptqsr.load(tmp_path / "run" / CHECKPOINT)
    x = batch(loaded)
    with torch.no_grad():
        trainer.average.eval()
        assert torch.equal(loaded(x), trainer.average(x))
        mix(loaded)
        with recording_bits(loaded) as chosen:
            wanted = loaded(x)
        # Sums are rounded otherwise in integers, which may flip a code here and there.
        apart = (ptqsr.deploy(loaded)(x) - wanted).abs()
        assert apart.mean() < 1e-4 and apart.max() < 0.01
    rows = {tuple(bits) for bits in chosen.values()}
    if by == "patch":
        assert len(rows) == 1 and len(set(rows.pop())) > 1
    elif by == "layer":
        assert all(len(set(row)) == 1 for row in rows)
    second = [q for q in loaded.modules() if isinstance(q, SelectedQuantizer)][1]
    assert second.lowests.tolist() == ([0, 0, 0] if unsigned else [-8, -32, -128])


def test_weights_follow_bits(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    """Samples of 4 bits are convolved with 4-bit weights, in training and in what comes of it."""
    made = hook(teacher, weights_follow_bits=True)
    trainer = trained(pictures, tmp_path / "run", made, steps=2)
    choose_by_picture(trainer.average)
    choose_by_picture(trainer.network)
    frozen = made.frozen(trainer.average)
    ptqsr.save(frozen, tmp_path / "made.safetensors")
    loaded = ptqsr.load(tmp_path / "made.safetensors").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = batch(frozen)
    with torch.no_grad():
        wanted = frozen(x)
        assert torch.equal(trainer.average(x), wanted)
        assert torch.equal(loaded(x), wanted)
        deployed = ptqsr.deploy(loaded)
        torch.testing.assert_close(deployed(x), wanted, rtol=0, atol=1e-4)
        assert "weight of body.0.body.0 follows the bits" in str(deployed.plan.reason)
        assert "every sample chooses 4 or 6 or 8" in describe(deployed.plan)[1]["remark"]
        for quantizer in choosers(loaded).values():
            quantizer.get_submodule("quantizer").weights_follow = False  # type: ignore[assignment]
        apart = (loaded(x) - wanted).abs().amax((1, 2, 3))
    assert apart[0] > 1e-4 and apart[3] == 0
    layer = next(iter(choosers(frozen).values()))
    assert isinstance(layer, FakeQuantConv2d)
    coarse = layer.quantized_weight.coarser(4)
    coarse.check()
    levels = coarse.levels()
    assert levels.abs().max() == 7 and len(coarse.step.unique()) == 1
    assert (coarse.dequantize() - layer.weight).abs().max() <= coarse.step[0] / 2 * 1.001
    trainer.network.train()
    trainer.network(x).sum().backward()
    assert all(p.grad is not None for p in trainer.network.parameters())


def test_resumed_is_uninterrupted(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    whole = trained(pictures, tmp_path / "whole", hook(teacher))

    class Stop(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        raise Stop

    cut = Trainer(network(), pictures, CONFIG, tmp_path / "cut", hook(teacher))
    with pytest.raises(Stop):
        cut.train(stop)
    trainer = Trainer(network(), pictures, CONFIG, tmp_path / "cut", hook(teacher))
    trainer.resume()
    assert trainer.step == 2
    trainer.train()
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(trainer.network.state_dict()[name], tensor), name


def test_another_teacher_is_refused(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    trained(pictures, tmp_path / "run", hook(teacher), steps=2)
    other = taught(pictures, tmp_path / "other", seed=3)
    trainer = Trainer(network(), pictures, CONFIG, tmp_path / "run", hook(other))
    with pytest.raises(PtqsrError, match="teacher = of digest"):
        trainer.resume()


def test_a_run_may_be_begun_again(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    """By the same hook: what all layers shared in the first network is not in the second."""
    made = hook(teacher, choose_by="patch")
    runs = [trained(pictures, tmp_path / str(i), made, steps=1).network for i in (0, 1)]
    ours, theirs = ({m for m in run.modules() if isinstance(m, Selector)} for run in runs)
    assert len(ours) == len(theirs) == 1 and not ours & theirs


def test_what_a_teacher_must_be(
    pictures: list[Path], tmp_path: Path, teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the same float weights, before pictures are read; an unfinished one is told of."""
    changed = network()
    changed.get_parameter("head.0.bias").data += 1
    with pytest.raises(PtqsrError, match="the teacher was made with weights = of digest"):
        Trainer(changed, [tmp_path / "gone.png"], CONFIG, tmp_path, hook(teacher))
    Trainer(network(), pictures, CONFIG, tmp_path, hook(teacher))
    assert not caplog.records
    state = torch.load(teacher / "state.pt", weights_only=True)
    state["step"] = 1
    torch.save(state, tmp_path / "state.pt")
    Trainer(network(), pictures, CONFIG, tmp_path / "run", hook(tmp_path))
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}: the teacher has had 1 of its 2 steps"
    ]


# --- bad input ---


def test_networks_that_are_not_of_the_zoo(tmp_path: Path) -> None:
    own = models.wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 12, 1), torch.nn.PixelShuffle(2)))
    with pytest.raises(PtqsrError, match="is for the zoo's networks, not Sequential"):
        hook(tmp_path).check(own)


def test_no_teacher(pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(PtqsrError, match="holds no training run; make one with"):
        Trainer(network(), pictures, CONFIG, tmp_path / "run", hook(tmp_path / "none"))
    with pytest.raises(PtqsrError, match="has no teacher"):
        CADyQ(Options(Config(method="cadyq", bits=8)))
    four = taught(pictures, tmp_path / "four", bits=4)
    with pytest.raises(PtqsrError, match="weight_bits = 4, not 8"):
        Trainer(network(), pictures, CONFIG, tmp_path / "run", hook(four))
    (four / "state.pt").write_bytes(b"nothing")
    with pytest.raises(PtqsrError, match="no readable training state"):
        Trainer(network(), pictures, CONFIG, tmp_path / "run", hook(four))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(candidates=(4,)), "two or more"),
        (dict(candidates=(8, 4)), "the fewest first"),
        (dict(candidates=(4, 9)), "from 2 to 8"),
        (dict(choose_by="picture"), "choose both or layer or patch or range"),
        (dict(bit_loss="none"), "weighted or plain"),
        (dict(bit_weight=-1.0), "at least 0"),
        (dict(feature_weight=math.nan), "finite"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PtqsrError, match=message):
        Selection(Path(), **options)


def test_few_weights_do_not_follow() -> None:
    chosen = Selection(Path(), weights_follow_bits=True)
    with pytest.raises(PtqsrError, match="weights of 4 bits are as few as they get"):
        Options(Config(method="cadyq", weight_bits=4), selection=chosen)


@pytest.mark.parametrize("damage", ["weight", "steps", "candidates", "by"])
def test_a_quantizer_that_does_not_fit(damage: str) -> None:
    quantizer = SelectingQuantizer((4, 8), Selector(2, 5, "both")).frozen()
    quantizer.check(5)
    if damage == "weight":
        quantizer.weight[0, 0] = math.nan
    elif damage == "steps":
        quantizer.steps[1] = 0
    elif damage == "candidates":
        quantizer.candidates = [8, 4]
    else:
        quantizer.by = "nothing"
    with pytest.raises(ValueError, match=r"candidates|NaN|step"):
        quantizer.check(5)


def test_a_manifest_made_by_hand(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    made = hook(teacher)
    trainer = trained(pictures, tmp_path / "run", made, steps=1)
    for name, value in (
        ("by", "nothing"),
        ("by", ["both"]),
        ("candidates", [4, 6]),
        ("candidates", [4, 6, 9]),
        ("candidates", [4, 6, "8"]),
        ("levels", [16, 64, 999]),
        ("levels", None),
        ("weight", torch.ones(3, 4)),
        ("steps", torch.tensor(1.0)),
        ("lowests", torch.zeros(3)),
    ):
        frozen = made.frozen(trainer.average)
        quantizer = next(m for m in frozen.modules() if isinstance(m, SelectedQuantizer))
        setattr(quantizer, name, value)
        ptqsr.save(frozen, tmp_path / "bad.safetensors")
        with pytest.raises(PtqsrError, match="its manifest does not describe its tensors"):
            ptqsr.load(tmp_path / "bad.safetensors")


# --- reports ---


def test_cost_by_what_was_chosen(pictures: list[Path], tmp_path: Path, teacher: Path) -> None:
    trained(pictures, tmp_path / "run", hook(teacher), steps=1)
    made = ptqsr.load(tmp_path / "run" / CHECKPOINT)
    most = cost(made)
    chosen = {name: [4, 4, 6, 8] for name in choosers(made)}
    first = next(iter(chosen))
    chosen[first] = [8, 8, 8, 8]
    spent = cost(made, chosen=chosen)
    pams = ptqsr.load(teacher / CHECKPOINT)
    selectors = [q for q in made.modules() if isinstance(q, SelectedQuantizer)]
    more = sum(q.weight.numel() + q.bias.numel() for q in selectors)
    assert selectors and spent.storage == cost(pams).storage + more
    assert spent.fqr == pytest.approx((8 + 3 * 5.5) / 4)
    saved = 2 * most.layers[1].macs * 8 * (8 - 5.5) * 3
    assert spent.bitops == pytest.approx(most.bitops - saved)
    for quantizer in made.modules():
        if isinstance(quantizer, SelectedQuantizer):
            quantizer.weights_follow = True
    # 4 x 4 and 4 x 4, 8 x 6, 8 x 8 instead of 8 x 8.
    saved = 2 * most.layers[1].macs * (64 - (16 + 16 + 48 + 64) / 4) * 3
    followed = cost(made, chosen=chosen)
    assert followed.bitops == pytest.approx(most.bitops - saved)
    assert followed.fqr == spent.fqr


@pytest.mark.parametrize("name", ["edsr", "carn_m"])
@pytest.mark.parametrize("batch", [2, 16])
def test_bits_of_patches(
    pictures: list[Path],
    tmp_path: Path,
    name: str,
    batch: int,
    teachers: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each patch has the mean of what its layers chose for it, also where they run three times."""
    made = hook(teachers(name))
    trainer = Trainer(network(name), pictures, CONFIG, tmp_path, made)
    choose_by_picture(trainer.network)
    frozen = made.frozen(trainer.network)
    rng = np.random.default_rng(0)
    picture = (rng.integers(256, size=(20, 28, 3)) * np.linspace(0, 1, 28)[:, None]).astype(
        np.uint8
    )
    patches = PatchWise(frozen, patch=12, overlap=4, batch=batch)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    x = x.contiguous(memory_format=torch.channels_last)
    wanted = []
    with torch.no_grad():
        with recording_bits(patches) as chosen:
            patches(x)
        for top in patches.starts(20):
            for left in patches.starts(28):
                with recording_bits(frozen) as alone:
                    frozen(x[..., top : top + 12, left : left + 12])
                wanted.append(fmean(fmean(bits) for bits in alone.values()))
    assert len(set(wanted)) > 1
    drawn: list[float] = []
    monkeypatch.setattr(
        "ptqsr.evaluation.bit_map.colour",
        lambda bits, ends: (drawn.append(bits), (0, 0, 0))[1],
    )
    draw_bits(tmp_path / "bits.png", picture, chosen, (4, 8), patches)
    assert drawn[: len(wanted)] == pytest.approx(wanted)
    with pytest.raises(PtqsrError, match="no layer chose bits for each of the 6 patches"):
        draw_bits(tmp_path / "bits.png", picture, {"a": [4, 4, 8, 8]}, (4, 8), patches)
