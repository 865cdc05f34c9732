"""Quantization-aware methods on small networks: what they train, freeze, keep and resume."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import write_photograph
from safetensors.torch import load_file

import ptqsr
from ptqsr import Config, PtqsrError, checkpoint, models
from ptqsr.deployment import describe
from ptqsr.evaluation import cost
from ptqsr.models import SRNetwork, observing
from ptqsr.modules import FakeQuantConv2d, placed
from ptqsr.training import TrainConfig, Trainer, precision
from ptqsr.training.config import Precision
from ptqsr.training.data import TrainingPictures
from ptqsr.training.methods import CHECKPOINT, METHODS, ODM, Options, QuantizationAware
from ptqsr.training.methods.options import PLACEMENTS
from ptqsr.training.methods.variance import choose_variance_weight
from ptqsr.training.trainable import ClippedQuantizer, layers_of, quantizers_of

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = TrainConfig(
    steps=4,
    batch_size=2,
    patch_size=8,
    warmup=0,
    phases=3,
    learning_rate=1e-3,
    clip=math.inf,
    ema=0.0,
    validation_images=1,
    validate_every=2,
    precision="fp32",
)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "edsr": ("edsr", dict(blocks=3, width=8)),
    "small": ("edsr", dict(blocks=1, width=8)),
    "edsr_bn": ("edsr", dict(blocks=1, width=8, batch_norm=True)),
    "rdn": ("rdn", dict(blocks=1, layers=2, growth=8, width=8)),
    "srresnet": ("srresnet", dict(blocks=1, width=8)),
    "carn": ("carn", dict(width=8)),
    "carn_m": ("carn_m", dict(width=8)),
    "idn": ("idn", dict(width=16)),
    "idn_y": ("idn", dict(width=16, colours="y")),
}

# CADyQ begins with another run: test_cadyq.py.
FROM_FLOAT = [method for method in METHODS if method != "cadyq"]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [write_photograph(tmp_path / f"{i}.png", 40 + i, 50 - i, i) for i in range(3)]


def network(name: str = "edsr") -> SRNetwork:
    torch.manual_seed(0)
    architecture, hyperparameters = NETWORKS[name]
    return models.build(architecture, scale=2, weights=None, **hyperparameters)


def hook(method: str, bits: int = 4, **options: Any) -> QuantizationAware:
    given = {"init_batches": 2, "skt_weight": METHODS[method].skt_weight, **options}
    return METHODS[method](Options(Config(method=method, bits=bits), **given))


def trained(
    pictures: list[Path],
    run: Path,
    made: QuantizationAware,
    config: TrainConfig = CONFIG,
    name: str = "edsr",
    resume: bool = False,
) -> Trainer:
    trainer = Trainer(network(name), pictures, config, run, made)
    if resume:
        trainer.resume()
    trainer.train()
    return trainer


def picture(of: SRNetwork) -> torch.Tensor:
    x = torch.rand(1, 1 if of.colours == "y" else 3, 11, 13, generator=torch.Generator())
    return x.contiguous(memory_format=torch.channels_last)


# --- from a float network to a checkpoint ---


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("edsr_bn", "pams"),
        ("rdn", "odm"),
        ("srresnet", "pams"),
        ("carn", "odm"),
        ("carn_m", "pams"),
        ("idn", "odm"),
        ("idn_y", "pams"),
    ],
)
def test_every_network(pictures: list[Path], tmp_path: Path, name: str, method: str) -> None:
    check(pictures, tmp_path / "run", hook(method), name)


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("method", FROM_FLOAT)
def test_every_method(pictures: list[Path], tmp_path: Path, method: str, bits: int) -> None:
    # Offsets go to layers that differ: ODM needs several.
    check(pictures, tmp_path / "run", hook(method, bits), "edsr" if method == "odm" else "small")


@torch.no_grad()
def check(pictures: list[Path], run: Path, made: QuantizationAware, name: str) -> None:
    """Frozen is trainable, saved is frozen, deployed is saved."""
    with torch.enable_grad():
        trainer = trained(pictures, run, made, replace(CONFIG, steps=2), name)
    x, trainable = picture(trainer.network), trainer.average
    frozen = made.frozen(trainable)
    assert torch.equal(frozen(x), trainable(x))
    saved = ptqsr.load(run / CHECKPOINT)
    assert saved.calibration == made.options.quantization
    # Of the same memory layout too: PyTorch adds up in an order that depends on it.
    again = saved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.equal(again(x), trainable(x))
    for ours, theirs in zip(_layers(frozen), _layers(again), strict=True):
        assert torch.equal(ours.weight, theirs.weight)
        y = torch.randn(1, ours.in_channels, 5, 6)
        assert torch.equal(ours.quantizer(y), theirs.quantizer(y))
    deployed = ptqsr.deploy(saved)
    integers = {row["layer"] for row in describe(deployed.plan) if row["how"] == "int8 uniform"}
    assert len(integers) == len(_layers(saved))
    assert (deployed(x) - saved(x)).abs().max() < 1e-5
    assert cost(saved).fqr == made.options.quantization.act_bits


def _layers(of: SRNetwork) -> list[FakeQuantConv2d]:
    return [module for module in of.modules() if isinstance(module, FakeQuantConv2d)]


def test_nothing_is_lost_at_the_start(pictures: list[Path], tmp_path: Path) -> None:
    """The student has the float weights: at 8 bits it is close before the first step."""
    trainer = Trainer(network(), pictures, CONFIG, tmp_path, hook("pams", bits=8))
    trainer.hook.initialise(trainer.network, trainer._inputs)
    x = trainer._inputs(0)
    y, expected = trainer.network(x), trainer.hook.teacher(x)  # type: ignore[attr-defined]
    assert (y - expected).abs().max() < 0.02


@pytest.mark.parametrize("method", ["pams", "odm", "tflite", "pact"])
def test_training_learns(pictures: list[Path], tmp_path: Path, method: str) -> None:
    config = replace(CONFIG, steps=40, validate_every=20, learning_rate=5e-3)
    seen: list[dict[str, Any]] = []
    Trainer(network("small"), pictures, config, tmp_path / "run", hook(method)).train(seen.append)
    assert seen[-1]["loss"] < 0.8 * seen[0]["loss"]
    assert seen[-1]["validation_psnr"] > seen[0]["validation_psnr"]


def test_ranges_have_their_own_learning_rate(pictures: list[Path], tmp_path: Path) -> None:
    trainer = trained(pictures, tmp_path / "run", hook("pams", range_factor=10.0))
    weights, ranges = trainer.optimiser.param_groups
    assert ranges["lr"] == pytest.approx(10 * weights["lr"]) and len(ranges["params"]) == 6
    assert weights["lr"] == pytest.approx(CONFIG.learning_rate / 4)  # the last of three phases
    for quantizer in quantizers_of(trainer.network):
        assert all(id(p) in map(id, ranges["params"]) for p in quantizer.parameters())


# --- placement ---


@pytest.mark.parametrize("name", ["edsr", "rdn", "srresnet", "carn_m"])
@torch.no_grad()
def test_placement_of_the_paper(pictures: list[Path], tmp_path: Path, name: str) -> None:
    run, made = tmp_path / "run", hook("pams", placement="paper")
    with torch.enable_grad():
        trainer = trained(pictures, run, made, replace(CONFIG, steps=2), name)
    x = picture(trainer.network)
    blocks = trainer.network.residual_blocks()
    places = {(module, where) for module, where, _ in placed(trainer.network)}
    assert places == {(b, "input") for b in blocks} | {(e, "output") for e in blocks.values()}
    frozen = made.frozen(trainer.average)
    assert torch.equal(frozen(x), trainer.average(x))
    saved = ptqsr.load(run / CHECKPOINT)
    assert (saved(x) - frozen(x)).abs().max() < 1e-5
    shared = {q: where for _, where, q in placed(saved)}
    if name == "edsr":  # three a block: the first convolution has the block's
        quantizers = {layer.quantizer for layer in _layers(saved)} | set(shared)
        assert len(quantizers) == 3 * len(blocks)
    with pytest.raises(PtqsrError, match="fine-tune with --placement deployable"):
        ptqsr.deploy(saved)
    ptqsr.save(saved, tmp_path / "again.safetensors")
    assert torch.equal(ptqsr.load(tmp_path / "again.safetensors")(x), saved(x))


@torch.no_grad()
def test_the_shortcut_is_quantized_in_the_paper_alone(pictures: list[Path], tmp_path: Path) -> None:
    for placement in PLACEMENTS:
        made = hook("pams", placement=placement)
        with torch.enable_grad():
            config = replace(CONFIG, steps=1)
            frozen = made.frozen(trained(pictures, tmp_path / placement, made, config).average)
        for layer in _layers(frozen):
            if layer.bias is not None:
                layer.bias.zero_()
            layer.weight.zero_()  # what is left of a block is its shortcut
        inner: list[torch.Tensor] = []
        layers = {"": frozen.get_submodule("body.2")}
        with observing(layers, lambda _, x, inner=inner: inner.append(x)):  # type: ignore[misc]
            frozen(picture(frozen))
        count = len(inner[0].unique())
        assert count > 100 if placement == "deployable" else 1 < count <= 15


def test_networks_without_blocks_have_no_such_placement(
    pictures: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(PtqsrError, match="idn has no residual blocks"):
        Trainer(network("idn"), pictures, CONFIG, tmp_path, hook("pams", placement="paper"))
    with pytest.raises(PtqsrError, match="placement paper: odm has no such form"):
        hook("odm", placement="paper")


# --- ODM ---


def test_offsets_go_to_the_layers_that_differ_most(pictures: list[Path], tmp_path: Path) -> None:
    made = hook("odm", offset_ratio=0.3)
    trainer = trained(pictures, tmp_path / "run", made)
    assert isinstance(made, ODM)
    rows = json.loads((tmp_path / "run" / "mismatch.json").read_text())
    assert [row["layer"] for row in rows] == list(layers_of(trainer.network))
    for offset, measure in (("shift", "mean"), ("gain", "deviation")):
        # 30 % of 6 layers, by linear interpolation above the 70th percentile: 2.
        chosen = {row["layer"] for row in rows if row[offset]}
        largest = sorted(rows, key=lambda row: -row["before"][measure])[:2]
        assert chosen == {row["layer"] for row in largest}
    for row in rows:
        quantizer = layers_of(trainer.network)[row["layer"]].quantizer
        assert isinstance(quantizer, ClippedQuantizer)
        assert (quantizer.shift is not None, quantizer.gain is not None) == (
            row["shift"],
            row["gain"],
        )
        assert row["after"] != row["before"]


def test_without_regularisation(pictures: list[Path], tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    made = hook("odm", variance_weight=0.0, offset_ratio=0.0)
    trainer = Trainer(network(), pictures, CONFIG, tmp_path / "run", made)
    trainer.train(seen.append)
    assert "conflict" not in seen[-1]
    assert all(not q.offsets() for q in quantizers_of(trainer.network))  # type: ignore[attr-defined]


def test_the_log_has_the_share_of_conflicts(pictures: list[Path], tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    Trainer(network("small"), pictures, CONFIG, tmp_path / "run", hook("odm")).train(seen.append)
    assert all(0 < record["conflict"] < 1 and record["deviation"] > 0 for record in seen)


def test_regularisation_reaches_the_gradients(pictures: list[Path], tmp_path: Path) -> None:
    """A step's gradient is the reconstruction's plus what agrees of the regularisation's."""
    gradients = {}
    for weight in (0.0, 0.5):
        made = hook("odm", variance_weight=weight)
        trainer = Trainer(network(), pictures, CONFIG, tmp_path / "run", made)
        made.initialise(trainer.network, trainer._inputs)
        trainer._one_step(1e-3)
        gradients[weight] = {n: p.grad.clone() for n, p in trainer.network.named_parameters()}  # type: ignore[union-attr]
    plain, regular = gradients.values()
    assert any(not torch.equal(plain[name], regular[name]) for name in plain)
    for name in plain:
        added = regular[name] - plain[name]
        slack = 1e-5 * plain[name].abs().max()
        assert ((added * plain[name] >= 0) | (added.abs() <= slack)).all(), name


def test_variance_weight_by_the_rule(pictures: list[Path], tmp_path: Path) -> None:
    run, made = tmp_path / "run", hook("odm")
    config = replace(CONFIG, steps=60)
    data = TrainingPictures(pictures, config, 2)
    rows: list[dict[str, Any]] = []
    chosen = choose_variance_weight(network, data, config, made.options, run, rows.append)
    assert [row["ratio"] for row in rows] == [0.01, 0.1, 1.0]
    best = max(rows, key=lambda row: row["psnr"])
    assert chosen == best["variance_weight"]
    assert not (run / "trials").exists()
    # It is chosen once, and for one run.
    again = choose_variance_weight(network, data, config, made.options, run, rows.append)
    assert again == chosen and len(rows) == 3
    longer = replace(config, steps=90, validate_every=7)
    assert choose_variance_weight(network, data, longer, made.options, run) == chosen
    with pytest.raises(PtqsrError, match="was chosen for bits = 4, not 2; delete it"):
        choose_variance_weight(network, data, config, hook("odm", bits=2).options, run)

    def changed() -> SRNetwork:
        other = network()
        other.get_parameter("head.0.bias").data += 1
        return other

    with pytest.raises(PtqsrError, match="was chosen for weights = of digest"):
        choose_variance_weight(changed, data, config, made.options, run)
    (run / "variance_weight.json").write_text("{")
    with pytest.raises(PtqsrError, match=r"variance_weight\.json: is no choice of ours"):
        choose_variance_weight(network, data, config, made.options, run)
    nothing = TrainingPictures(pictures, replace(config, validation_images=0), 2)
    with pytest.raises(PtqsrError, match="give --variance-weight"):
        choose_variance_weight(network, nothing, config, made.options, tmp_path / "other")


def small() -> SRNetwork:
    return network("small")


def trials_of(
    monkeypatch: pytest.MonkeyPatch, pictures: list[Path], run: Path, steps: int = 80
) -> tuple[dict[float, int], float]:
    """Choose; return how many steps each trial took, by the ratio's place, and the weight."""
    config = replace(CONFIG, steps=steps)
    taken: dict[float, int] = {}
    usual = Trainer._one_step

    def counted(self: Trainer, rate: float) -> Any:
        weight = self.hook.options.variance_weight  # type: ignore[attr-defined]
        taken[weight] = taken.get(weight, 0) + 1
        return usual(self, rate)

    monkeypatch.setattr(Trainer, "_one_step", counted)
    data = TrainingPictures(pictures, config, 2)
    options = replace(hook("odm").options, variance_weight=None)
    try:
        return taken, choose_variance_weight(small, data, config, options, run)
    finally:
        monkeypatch.setattr(Trainer, "_one_step", usual)


def test_trials_that_are_stopped_go_on(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, chosen = trials_of(monkeypatch, pictures, tmp_path / "whole")
    assert list(whole.values()) == [4, 4, 4]
    save, saved = Trainer._save, []

    def stop(self: Trainer) -> None:
        save(self)
        saved.append(self.step)
        if len(saved) == 3:
            raise Interruption

    monkeypatch.setattr(Trainer, "_save", stop)
    run = tmp_path / "parts"
    with pytest.raises(Interruption):
        trials_of(monkeypatch, pictures, run)
    # What was left there by a run with other options is no start.
    other = run / "trials" / "4-1"
    trained(pictures, other, hook("pams"), replace(CONFIG, steps=4), "small")
    monkeypatch.setattr(Trainer, "_save", save)
    rest, again = trials_of(monkeypatch, pictures, run)
    assert list(rest.values()) == [2, 4] and again == chosen
    one, two = (
        json.loads((r / "variance_weight.json").read_text()) for r in (run, tmp_path / "whole")
    )
    assert one == two


def test_trials_that_diverge_lose(
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    usual, weights = ODM.loss, []

    def loss(self: ODM, *arguments: Any) -> Any:
        weights.append(self.options.variance_weight)
        value, figures = usual(self, *arguments)
        return value * (math.nan if len(set(weights)) in diverging else 1), figures

    monkeypatch.setattr(ODM, "loss", loss)
    diverging = {1, 3}
    _, chosen = trials_of(monkeypatch, pictures, tmp_path / "run", steps=1)
    assert chosen == sorted(set(weights))[1] and not caplog.records
    record = json.loads((tmp_path / "run" / "variance_weight.json").read_text())
    assert [row["psnr"] == "-inf" for row in record["trials"]] == [True, False, True]
    weights, diverging = [], {1, 2, 3}
    with pytest.raises(PtqsrError, match=r"all runs to choose .* diverged"):
        trials_of(monkeypatch, pictures, tmp_path / "none", steps=1)
    weights, diverging = [], set()
    monkeypatch.setattr("ptqsr.training.methods.variance.CLEAR", 9.0)
    trials_of(monkeypatch, pictures, tmp_path / "unclear", steps=1)
    assert "which says little" in caplog.text


# --- resuming ---


class Interruption(Exception):
    pass


@pytest.mark.parametrize(
    ("method", "ema"), [("pams", 0.0), ("odm", 0.9), ("tflite", 0.9), ("dorefa", 0.0)]
)
def test_resumed_is_uninterrupted(
    pictures: list[Path], tmp_path: Path, method: str, ema: float
) -> None:
    config = replace(CONFIG, steps=6, ema=ema)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = trained(pictures, whole, hook(method), config, "small")
    stopping = hook(method)
    usual = stopping.edit_gradients

    def stop(network: Any, step: int) -> dict[str, float] | None:
        if step == 3:
            raise Interruption
        return usual(network, step)

    stopping.edit_gradients = stop  # type: ignore[method-assign]
    with pytest.raises(Interruption):
        trained(pictures, parts, stopping, config, "small")
    assert ptqsr.load(parts / CHECKPOINT)  # as far as it had come
    again = hook(method, init_batches=1)
    second = trained(pictures, parts, again, config, "small", resume=True)
    for ours, theirs in zip(
        first.network.state_dict().items(), second.network.state_dict().items(), strict=True
    ):
        assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1]), ours[0]
    one, two = load_file(whole / CHECKPOINT), load_file(parts / CHECKPOINT)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_resuming_needs_the_same_options_and_weights(pictures: list[Path], tmp_path: Path) -> None:
    run, config = tmp_path / "run", replace(CONFIG, steps=2)
    trained(pictures, run, hook("pams"), config)
    for other, what in (
        (hook("pact"), "method = pams, not pact"),
        (hook("pams", bits=8), "bits = 4, not 8"),
        (hook("pams", placement="paper"), "placement = deployable, not paper"),
        (hook("pams", skt="norm"), "skt = mean, not norm"),
    ):
        with pytest.raises(PtqsrError, match=what):
            trained(pictures, run, other, resume=True)
    changed = network()
    changed.get_parameter("head.0.bias").data += 1
    with pytest.raises(PtqsrError, match="was made with weights = of digest"):
        Trainer(changed, pictures, CONFIG, run, hook("pams")).resume()
    # Offsets elsewhere, as another machine might choose them.
    trained(pictures, tmp_path / "odm", hook("odm"), config)
    state = torch.load(tmp_path / "odm" / "state.pt")
    state["network"] = {n: t for n, t in state["network"].items() if "shift" not in n}
    torch.save(state, tmp_path / "odm" / "state.pt")
    with pytest.raises(PtqsrError, match="holds other tensors than this run's network"):
        trained(pictures, tmp_path / "odm", hook("odm"), resume=True)


# --- what is known of a run ---


def test_figures_are_means(pictures: list[Path], tmp_path: Path) -> None:
    """Of the steps since the last record; all of them, and the gradient's norm too."""
    logs = {}
    for every in (1, 4):
        config, run = replace(CONFIG, validate_every=every), tmp_path / str(every)
        trained(pictures, run, hook("odm"), config, "small")
        logs[every] = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (record,) = logs[4]
    for name in ("loss", "gradient_norm", "l1", "skt", "conflict", "deviation"):
        mean = sum(one[name] for one in logs[1]) / 4
        assert record[name] == pytest.approx(mean, rel=1e-6), name
    assert record["learning_rate"] == logs[1][-1]["learning_rate"]


def test_the_checkpoint_says_how_it_was_made(pictures: list[Path], tmp_path: Path) -> None:
    trained(pictures, tmp_path, hook("pams"), replace(CONFIG, steps=2, seed=7), "small")
    manifest, _ = checkpoint.read(tmp_path / CHECKPOINT)
    made = manifest["provenance"]["finetuned"]
    assert (made["step"], made["steps"], made["seed"], made["batch_size"]) == (2, 2, 7, 2)
    assert made["learning_rate"] == 1e-3 and made["clip"] == "inf" and made["method"] == "pams"
    assert made["pictures"].startswith("3 with names of digest")


@pytest.mark.parametrize("include", [(), ("tail.*",)])
def test_ranges_start_from_the_half_that_has_the_layers(
    pictures: list[Path], tmp_path: Path, include: tuple[str, ...]
) -> None:
    made = METHODS["pams"](Options(Config(method="pams", include=include), init_batches=3))
    trainer = Trainer(network("small"), pictures, CONFIG, tmp_path, made)
    assert made.running == (made.teacher if include else made.teacher.features)
    shown: list[tuple[str, int, int]] = []
    made.initialise(trainer.network, trainer._inputs, lambda *row: shown.append(row))
    assert [row[1:] for row in shown] == [(1, 3), (2, 3), (3, 3)]


def test_bfloat16_is_not_chosen_unasked(pictures: list[Path], tmp_path: Path) -> None:
    config = replace(CONFIG, precision="auto")
    trainer = Trainer(network("small"), pictures, config, tmp_path, hook("pams"))
    assert not trainer.arithmetic.bf16
    assert "move quantized values" in trainer.arithmetic.text


@pytest.mark.parametrize(
    ("asked", "capability", "autocasts", "expected"),
    [
        ("auto", (8, 0), False, (False, False)),  # as `evaluate` computes
        ("auto", (8, 0), True, (True, True)),
        ("auto", (7, 5), True, (False, True)),
        ("fp32", (8, 0), True, (False, False)),
        ("bf16", (8, 0), False, (True, False)),
    ],
)
def test_arithmetic_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    asked: Precision,
    capability: tuple[int, int],
    autocasts: bool,
    expected: tuple[bool, bool],
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    switches = SimpleNamespace(allow_tf32=None, deterministic=None)
    monkeypatch.setattr(torch.backends, "cudnn", switches)
    monkeypatch.setattr(torch.backends.cuda, "matmul", products := SimpleNamespace())
    device = torch.device("cuda")
    made = precision.choose(asked, device, autocasts)
    assert (made.bf16, made.tf32) == expected
    assert ("TF32" in made.text) == made.tf32
    made.use(device)
    assert switches.allow_tf32 == products.allow_tf32 == made.tf32
    assert switches.deterministic is True


def test_a_result_that_was_taken_away_is_written_again(
    pictures: list[Path], tmp_path: Path
) -> None:
    Trainer(network("small"), pictures, CONFIG, tmp_path, hook("pams")).train()
    made = load_file(tmp_path / CHECKPOINT)
    (tmp_path / CHECKPOINT).unlink()
    trainer = Trainer(network("small"), pictures, CONFIG, tmp_path, hook("pams"))
    trainer.resume()
    trainer.train()
    again = load_file(tmp_path / CHECKPOINT)
    assert again.keys() == made.keys() and all(
        torch.equal(again[name], made[name]) for name in made
    )


def test_a_weight_that_was_given_is_asked_for_again(pictures: list[Path], tmp_path: Path) -> None:
    made = hook("odm", variance_weight=0.1)
    Trainer(network("small"), pictures, CONFIG, tmp_path, made).train()
    data = TrainingPictures(pictures, CONFIG, 2)
    options = replace(made.options, variance_weight=None)
    with pytest.raises(PtqsrError, match=r"was trained with --variance-weight 0\.1; give that"):
        choose_variance_weight(small, data, CONFIG, options, tmp_path)
    assert not (tmp_path / "variance_weight.json").exists()
    other = replace(options, quantization=Config(method="odm", bits=3))
    with pytest.raises(PtqsrError, match=r"state\.pt: was made with bits = 4, not 3; use the same"):
        choose_variance_weight(small, data, CONFIG, other, tmp_path)


# --- what is refused ---


def test_what_shows_before_pictures_are_read(tmp_path: Path) -> None:
    gone = [tmp_path / "gone.png"]
    for made, name, config, message in (
        (hook("pams", placement="paper"), "idn", CONFIG, "idn has no residual blocks"),
        (hook("pams"), "small", replace(CONFIG, device="abacus"), "abacus"),
        (hook("pams"), "small", replace(CONFIG, precision="fp8"), "fp8"),
    ):
        with pytest.raises(PtqsrError, match=message):
            Trainer(network(name), gone, config, tmp_path / "run", made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(placement="anywhere"), "placement 'anywhere' is unknown"),
        (dict(skt="max"), "skt 'max' is unknown"),
        (dict(init_batches=0), "init_batches is 0"),
        (dict(skt_weight=-1.0), "skt_weight is -1.0"),
        (dict(range_factor=math.inf), "range_factor is inf"),
        (dict(variance_weight=math.nan), "variance_weight is nan"),
        (dict(offset_ratio=1.5), "offset_ratio is 1.5"),
        (dict(quantization=Config(edges=8)), "edges"),
        (dict(quantization=Config(layers=(("head", 4, 4),))), "layers"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PtqsrError, match=message):
        Options(**({"quantization": Config()} | options))


def test_quantized_networks_are_refused(pictures: list[Path], tmp_path: Path) -> None:
    quantized = ptqsr.calibrate(network(), [torch.rand(3, 16, 16)], Config(method="minmax"))
    with pytest.raises(PtqsrError, match="is quantized already; take the float network"):
        Trainer(quantized, pictures, CONFIG, tmp_path, hook("pams"))
