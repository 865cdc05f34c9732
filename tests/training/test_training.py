"""The training loop: resuming, hooks, schedule, crops, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import write_photograph
from safetensors.torch import load_file
from torch import nn

from ptqsr import models
from ptqsr.errors import PtqsrError
from ptqsr.images import downscale, read_rgb
from ptqsr.training import TrainConfig, Trainer, TrainingHook
from ptqsr.training.data import CropSampler, split

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = TrainConfig(
    steps=7,
    batch_size=2,
    patch_size=8,
    warmup=2,
    validation_images=1,
    validate_every=3,
    precision="fp32",
)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [write_photograph(tmp_path / f"{i}.png", 40 + i, 50 - i, i) for i in range(3)]


def network() -> models.SRNetwork:
    torch.manual_seed(0)
    return models.build("edsr", scale=2, weights=None, blocks=1, width=8)


SMALL: list[tuple[str, dict[str, Any]]] = [
    ("edsr", dict(blocks=1, width=8, batch_norm=True)),
    ("rdn", dict(blocks=1, layers=2, growth=8, width=8)),
    ("srresnet", dict(blocks=1, width=8)),
    ("carn", dict(width=8)),
    ("carn_m", dict(width=8)),
    ("idn", dict(width=16)),
    ("idn", dict(width=16, colours="y")),
    ("imdn", dict(blocks=1, width=64)),
]


@pytest.mark.parametrize("name, hyperparameters", SMALL, ids=str)
def test_every_architecture_trains(
    tmp_path: Path, pictures: list[Path], name: str, hyperparameters: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    net = models.build(name, scale=2, weights=None, **hyperparameters)
    before = {key: value.clone() for key, value in net.named_parameters()}
    Trainer(net, pictures, CONFIG, tmp_path / "run").train()
    assert all((value != before[key]).any() for key, value in net.named_parameters())
    again = models.load(tmp_path / "run" / "weights.safetensors", scale=2)
    assert again.hyperparameters == net.hyperparameters


class Interruption(Exception):
    pass


class Recorder(TrainingHook):
    """Notes what is called when; stops before `stop`; keeps a count in the state."""

    def __init__(self, stop: int | None = None) -> None:
        self.calls: list[tuple[str, int]] = []
        self.stop, self.count = stop, 0

    def parameter_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        self.calls.append(("parameter_groups", -1))
        return [
            {"params": [p for p in network.parameters() if p.ndim > 1]},
            {"params": [p for p in network.parameters() if p.ndim == 1], "lr_scale": 0.1},
        ]

    def loss(
        self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        if step == self.stop:
            raise Interruption
        assert lr.dtype == hr.dtype == torch.float32 and lr.min() >= 0 and hr.max() <= 1
        self.calls.append(("loss", step))
        self.count += 1
        return super().loss(network, lr, hr, step)[0], {"count": float(self.count)}

    def edit_gradients(self, network: nn.Module, step: int) -> None:
        assert all(p.grad is not None for p in network.parameters())
        self.calls.append(("edit_gradients", step))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def trained(
    pictures: list[Path],
    run: Path,
    config: TrainConfig = CONFIG,
    hook: TrainingHook | None = None,
    resume: bool = False,
) -> Trainer:
    trainer = Trainer(network(), pictures, config, run, hook)
    if resume:
        trainer.resume()
    trainer.train()
    return trainer


def records(run: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    lines = (run / "log.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def same(a: Path, b: Path) -> bool:
    one, two = load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors")
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# --- resuming ---


@pytest.mark.parametrize("stop", [4, 6])
def test_resumed_is_uninterrupted(pictures: list[Path], tmp_path: Path, stop: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = trained(pictures, whole, hook=Recorder())
    with pytest.raises(Interruption):
        trained(pictures, parts, hook=Recorder(stop))
    hook = Recorder()
    second = trained(pictures, parts, hook=hook, resume=True)
    assert hook.calls[1] == ("loss", stop // 3 * 3)
    assert same(whole, parts)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name]), name
    # But for the time taken, the logs agree too.
    logs = [[{**line, "seconds": 0} for line in records(run)] for run in (whole, parts)]
    assert logs[0] == logs[1] and [line["step"] for line in logs[0]] == [3, 6, 7]


def test_killed_in_the_middle_of_a_log_line(pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        trained(pictures, tmp_path / "run", hook=Recorder(stop=4))
    with open(tmp_path / "run" / "log.jsonl", "a") as log:
        log.write('{"step": 6, "loss": 1}\n{"step": 7, "lo')
    trained(pictures, tmp_path / "run", resume=True, hook=Recorder())
    assert [record["step"] for record in records(tmp_path / "run")] == [3, 6, 7]


def test_killed_before_the_first_save(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1}\n{"ste')
    trained(pictures, tmp_path / "run")
    assert [record["step"] for record in records(tmp_path / "run")] == [3, 6, 7]


def test_resuming_may_change_the_steps_alone(pictures: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(pictures, run)
    for changed in ({"batch_size": 3}, {"seed": 1}, {"learning_rate": 1e-3}, {"ema": 0.5}):
        (name,) = changed
        with pytest.raises(PtqsrError, match=rf"state\.pt: was made with {name} = "):
            trained(pictures, run, replace(CONFIG, **changed), resume=True)
    other = models.build("edsr", scale=2, weights=None, blocks=2, width=8)
    with pytest.raises(PtqsrError, match="blocks = 1, not 2"):
        Trainer(other, pictures, CONFIG, run).resume()
    started = network()
    started.get_parameter("head.0.weight").data += 1
    with pytest.raises(PtqsrError, match="was made with weights = of digest "):
        Trainer(started, pictures, CONFIG, run).resume()
    longer = trained(pictures, run, replace(CONFIG, steps=9), resume=True)
    assert longer.step == 9 and [r["step"] for r in records(run)] == [3, 6, 7, 9]
    assert trained(pictures, run, replace(CONFIG, steps=5), resume=True).step == 9


@pytest.mark.parametrize("content", [None, b"", b"nothing", "weights", "list"])
def test_state_that_is_none(pictures: list[Path], tmp_path: Path, content: Any) -> None:
    path = tmp_path / "state.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(network().state_dict() if content == "weights" else [1, 2], path)
    with pytest.raises(PtqsrError, match=r"state\.pt: ") as caught:
        trained(pictures, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


# --- what a run leaves ---


def test_what_a_run_leaves(pictures: list[Path], tmp_path: Path) -> None:
    run, seen = tmp_path / "run", []
    trainer = Trainer(network(), pictures, CONFIG, run)
    trainer.train(seen.append)
    names = {path.name for path in run.iterdir()}
    assert names == {"log.jsonl", "state.pt", "weights.safetensors"}
    assert seen == records(run)
    for record in seen:
        assert record["loss"] > 0 and record["validation_psnr"] > 0 and record["seconds"] >= 0
    weights = models.load(run / "weights.safetensors")
    for name, tensor in trainer.average.state_dict().items():
        assert torch.equal(tensor, weights.state_dict()[name]), name


def test_training_learns(pictures: list[Path], tmp_path: Path) -> None:
    config = replace(CONFIG, steps=60, learning_rate=5e-3, ema=0.9, validate_every=20)
    trained(pictures, tmp_path / "run", config)
    log = records(tmp_path / "run")
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert log[-1]["validation_psnr"] > log[0]["validation_psnr"] + 2


def test_figures_that_json_lacks(pictures: list[Path], tmp_path: Path) -> None:
    class Odd(TrainingHook):
        def loss(self, *arguments: Any) -> tuple[torch.Tensor, dict[str, float]]:
            return super().loss(*arguments)[0], {"inf": math.inf, "nan": math.nan}

    trained(pictures, tmp_path / "run", hook=Odd())
    assert {(r["inf"], r["nan"]) for r in records(tmp_path / "run")} == {("inf", "nan")}


# --- hooks ---


def test_hooks_are_called_in_order(pictures: list[Path], tmp_path: Path) -> None:
    hook = Recorder()
    trainer = trained(pictures, tmp_path / "run", hook=hook)
    per_step = [(name, step) for step in range(7) for name in ("loss", "edit_gradients")]
    assert hook.calls == [("parameter_groups", -1), *per_step]
    rates = [group["lr"] for group in trainer.optimiser.param_groups]
    assert rates[1] == pytest.approx(rates[0] * 0.1)
    # Means of 1, 2, 3; of 4, 5, 6; and of 7.
    assert [record["count"] for record in records(tmp_path / "run")] == [2, 5, 7]


def test_edited_gradients_are_those_that_count(pictures: list[Path], tmp_path: Path) -> None:
    class Frozen(TrainingHook):
        def edit_gradients(self, network: nn.Module, step: int) -> None:
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None
                if name != "head.0.bias":
                    parameter.grad.zero_()

    trainer, before = trained(pictures, tmp_path / "run", hook=Frozen()), network().state_dict()
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name != "head.0.bias"), name


def test_gradients_are_clipped_after_the_hook(pictures: list[Path], tmp_path: Path) -> None:
    class Large(TrainingHook):
        def edit_gradients(self, network: nn.Module, step: int) -> None:
            for parameter in network.parameters():
                assert parameter.grad is not None
                parameter.grad.fill_(1000)

    trainer = trained(pictures, tmp_path / "run", hook=Large())
    gradients = [p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None]
    assert float(torch.cat(gradients).norm()) == pytest.approx(CONFIG.clip, rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_diverged(pictures: list[Path], tmp_path: Path, value: float) -> None:
    class Diverging(TrainingHook):
        def loss(
            self, network: nn.Module, lr: torch.Tensor, hr: torch.Tensor, step: int
        ) -> tuple[torch.Tensor, dict[str, float]]:
            loss, figures = super().loss(network, lr, hr, step)
            return loss * (value if step == 4 else 1), figures

    trainer = Trainer(network(), pictures, CONFIG, tmp_path / "run", Diverging())
    with pytest.raises(PtqsrError, match="diverged at step 4; lower --learning-rate"):
        trainer.train()
    # Neither the run's files nor the network took the bad step.
    assert all(torch.isfinite(p).all() for p in trainer.network.parameters())
    assert [record["step"] for record in records(tmp_path / "run")] == [3]


# --- configuration ---


def test_schedule() -> None:
    config = TrainConfig(steps=110, warmup=10, learning_rate=1e-3, final_learning_rate=1e-5)
    rates = [config.learning_rate_at(step) for step in range(111)]
    assert rates[0] == pytest.approx(1e-4) and rates[4] == pytest.approx(5e-4)
    assert rates[9] == rates[10] == pytest.approx(1e-3)
    assert rates[35] == pytest.approx(1e-5 + 0.99e-3 * 0.5 * (1 + math.sqrt(0.5)))
    assert rates[60] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[110] == pytest.approx(1e-5)
    assert all(a <= b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert config.learning_rate_at(1000) == pytest.approx(1e-5)
    assert TrainConfig(steps=1, warmup=0).learning_rate_at(0) == TrainConfig().learning_rate


@pytest.mark.parametrize("steps", [30, 3000, 31])
def test_schedule_of_halves(steps: int) -> None:
    """As the papers': 30 epochs halved every 10, whatever an epoch is."""
    config = TrainConfig(steps=steps, warmup=0, phases=3, learning_rate=1e-4)
    rates = [config.learning_rate_at(step) for step in range(steps)]
    assert set(rates) == {1e-4, 5e-5, 2.5e-5} and rates == sorted(rates, reverse=True)
    assert all(abs(rates.count(rate) - steps / 3) < 1 for rate in set(rates))
    assert config.learning_rate_at(10 * steps) == 2.5e-5
    warm = replace(config, warmup=10)
    assert warm.learning_rate_at(4) == pytest.approx(5e-5)
    assert warm.learning_rate_at(10) == rates[10]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phases", -1),
        ("steps", 0),
        ("batch_size", 0),
        ("patch_size", 7),
        ("validate_every", 0),
        ("warmup", -1),
        ("validation_images", -1),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("final_learning_rate", -1.0),
        ("clip", 0.0),
        ("ema", 1.0),
    ],
)
def test_bad_configuration(field: str, value: float) -> None:
    with pytest.raises(PtqsrError, match=field):
        replace(CONFIG, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("precision", "fp8"), ("device", "nonsense"), ("device", "meta"), ("device", "cuda:99")],
)
def test_what_this_machine_lacks(
    pictures: list[Path], tmp_path: Path, field: str, value: str
) -> None:
    with pytest.raises(PtqsrError, match=value):
        Trainer(network(), pictures, replace(CONFIG, **{field: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- pictures ---


@pytest.mark.parametrize("held_out", range(11))
def test_split(held_out: int) -> None:
    paths = [Path(f"{i:02}.png") for i in range(11)]
    training, validation = split(paths, held_out)
    assert len(validation) == held_out and sorted(training + validation) == paths
    assert split(paths, held_out) == (training, validation)


@pytest.mark.parametrize("held_out", [3, 4])
def test_split_leaves_some_to_train_on(held_out: int) -> None:
    with pytest.raises(PtqsrError, match="--validation-images"):
        split([Path("a"), Path("b"), Path("c")], held_out)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_crops_are_aligned(tmp_path: Path, scale: int) -> None:
    """Away from the border, the bicubic LR of the HR crop is the LR crop."""
    paths = [write_photograph(tmp_path / f"{i}.png", 83 + i, 91 - i, i) for i in range(2)]
    sampler = CropSampler(paths, scale=scale, patch_size=16, batch_size=12, seed=0)
    lr, hr = sampler.batch(5)
    assert lr.shape == (12, 3, 16, 16) and hr.shape == (12, 3, 16 * scale, 16 * scale)
    assert lr.dtype == hr.dtype == torch.uint8
    exact = 0
    for small, large in zip(lr, hr, strict=True):
        shrunk = downscale(large.permute(1, 2, 0).numpy(), scale)[0].astype(int)
        difference = np.abs(shrunk - small.permute(1, 2, 0).numpy())[3:-3, 3:-3]
        # A turned crop is resized in the other order, with another rounding in between; one HR
        # pixel aside would show as 5 grey levels.
        assert difference.max() <= 1
        exact += difference.max() == 0
    assert exact > 0


def test_crops_depend_on_seed_and_step_alone(pictures: list[Path]) -> None:
    def sampler(seed: int) -> CropSampler:
        return CropSampler(pictures, scale=2, patch_size=8, batch_size=2, seed=seed)

    one, two = sampler(0), sampler(0)
    later = one.batch(7)
    two.batch(3)
    assert all(torch.equal(a, b) for a, b in zip(later, two.batch(7), strict=True))
    assert not torch.equal(later[0], one.batch(8)[0])
    assert not torch.equal(later[0], sampler(1).batch(7)[0])


def test_crops_reach_every_corner_in_all_positions(tmp_path: Path) -> None:
    path = write_photograph(tmp_path / "p.png", 18, 18)
    corners = read_rgb(path)[::17, ::17].reshape(4, 3)
    sampler = CropSampler([path], scale=2, patch_size=8, batch_size=200, seed=0)
    firsts = {tuple(int(v) for v in crop[:, 0, 0]) for crop in sampler.batch(0)[1]}
    assert {tuple(map(int, corner)) for corner in corners} <= firsts


def test_small_pictures_are_left_out(tmp_path: Path, pictures: list[Path]) -> None:
    sizes = ((1, 1), (15, 40), (40, 15))
    small = [write_photograph(tmp_path / f"small{i}.png", *size) for i, size in enumerate(sizes)]
    fits = write_photograph(tmp_path / "fits.png", 16, 17)
    sampler = CropSampler([*small, *pictures, fits], scale=2, patch_size=8, batch_size=2, seed=0)
    assert sampler.too_small == small and len(sampler.pairs) == 4
    with pytest.raises(PtqsrError, match=r"16 pixels .* lower --patch-size"):
        CropSampler(small, scale=2, patch_size=8, batch_size=2, seed=0)
    # Of the validation pictures too: the first of these would be one.
    trainer = Trainer(network(), [small[0], *pictures], CONFIG, tmp_path / "run")
    assert trainer.validation == [] and len(trainer.sampler.pairs) == 3
    trainer.train()
    assert "validation_psnr" not in records(tmp_path / "run")[0]
