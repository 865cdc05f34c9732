"""What layers lose alone, and the choice of bits by it."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph, write_photograph
from typer.testing import CliRunner

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.cli.app import app
from ptqsr.images import downscale
from ptqsr.modules import FakeQuantConv2d
from ptqsr.sensitivity import LayerSensitivity, Loss, Sensitivity, choose, sensitivity

pytestmark = pytest.mark.usefixtures("one_thread")
BITS = (3, 4, 6, 8)


def random_losses(layers: int, seed: int = 0, in_db: bool = True, cliff: float = 1) -> Sensitivity:
    """`cliff`: how many times worse the fewest bits are than they would be."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(layers):
        worst = rng.lognormal(-2, 1.5)
        drops = {b: worst * 4.0 ** (3 - b) for b in BITS}
        drops[BITS[0]] *= cliff
        losses = {b: Loss(drop * 50, drop if in_db else None) for b, drop in drops.items()}
        rows.append(LayerSensitivity(f"layer{i}", int(rng.integers(1, 99)) * 1000, True, losses))
    return Sensitivity("random x2", "0", "minmax", tuple(rows))


def all_choices(measured: Sensitivity) -> list[tuple[float, float]]:
    """(mean bits, loss in dB) of every choice that there is."""
    macs = np.array([row.macs for row in measured.layers])
    found = []
    for bits in product(BITS, repeat=len(macs)):
        drops = [row.losses[b].drop for row, b in zip(measured.layers, bits, strict=True)]
        found.append((float(macs @ np.array(bits) / macs.sum()), sum(filter(None, drops))))
    return found


@pytest.mark.parametrize(("seed", "cliff"), [(0, 1), (1, 1), (2, 1e4), (3, 1e8)])
def test_no_other_choice_is_better(seed: int, cliff: float) -> None:
    measured = random_losses(5, seed, cliff=cliff)
    everything = np.array(all_choices(measured))
    means, losses = everything.T
    for target in (3.0, 4.0, 4.5, 8.0):
        choice = choose(measured, target_bits=target)
        assert choice.mean_bits <= target * (1 + 1e-12)
        assert choice.loss == pytest.approx(losses[means <= target * (1 + 1e-12)].min(), rel=1e-6)
    for drop in (0.002, 0.02, 0.2, 1.0):
        kept = means[losses <= drop]
        if not len(kept):
            with pytest.raises(PtqsrError, match="no choice keeps to it"):
                choose(measured, max_drop=drop)
            continue
        choice = choose(measured, max_drop=drop)
        assert choice.loss <= drop
        assert choice.mean_bits == pytest.approx(kept.min(), rel=1e-6)


def test_what_the_edges_lose_counts() -> None:
    measured = random_losses(4)
    edge = LayerSensitivity("edge", 10**9, False, {8: Loss(1.0, 0.05)})
    with_edge = Sensitivity("random x2", "0", "minmax", (*measured.layers, edge))
    assert choose(with_edge, max_drop=0.25).bits == choose(measured, max_drop=0.2).bits
    assert "edge" not in choose(with_edge, target_bits=4).bits


def test_limits_that_cannot_be_kept() -> None:
    measured = random_losses(3)
    with pytest.raises(PtqsrError, match=r"target_bits 2\.5: no choice keeps to it.* 3 bits"):
        choose(measured, target_bits=2.5)
    with pytest.raises(PtqsrError, match=r"max_drop 1e-09 dB: no choice keeps to it"):
        choose(measured, max_drop=1e-9)
    with pytest.raises(PtqsrError, match="need true pictures"):
        choose(random_losses(3, in_db=False), max_drop=1)
    assert choose(random_losses(3, in_db=False), target_bits=4).in_db is False
    with pytest.raises(PtqsrError, match="target_bits is nan; give a number"):
        choose(measured, target_bits=float("nan"))
    for limits in ({}, {"target_bits": 4, "max_drop": 1}):
        with pytest.raises(PtqsrError, match="give target_bits or max_drop"):
            choose(measured, **limits)


def lively() -> models.SRNetwork:
    """An EDSR whose second block matters ten times more than its first."""
    torch.manual_seed(0)
    network = models.build("edsr", scale=2, weights=None, blocks=2, width=12)
    with torch.no_grad():
        for layer, gain in (("body.0.body.2", 0.5), ("body.1.body.2", 5.0), ("tail.1", 0.1)):
            network.get_submodule(layer).weight.mul_(gain)
    return network


CROPS = [photograph(36, 36, seed) for seed in range(3)]
PAIRS = [downscale(crop, 2) for crop in CROPS]


def test_each_layer_alone() -> None:
    network = lively()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    inputs = [low for low, _ in PAIRS]
    config = Config(method="minmax", edges=8)
    found = sensitivity(network, inputs, PAIRS, config, (4, 8))
    rows = {row.name: row for row in found.layers}
    body = {name: row for name, row in rows.items() if row.body}
    assert body.keys() == {f"body.{i}.body.{j}" for i in (0, 1) for j in (0, 2)}
    assert all(row.losses.keys() == {4, 8} for row in body.values())
    assert rows["tail.1"].losses.keys() == {8} and found.in_db
    for row in body.values():
        assert row.losses[4].mse > 20 * row.losses[8].mse > 0
    assert body["body.1.body.2"].losses[4].mse > 10 * body["body.0.body.2"].losses[4].mse
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())

    # The same by hand: the network with that one layer quantized.
    alone = ptqsr.calibrate(
        network, inputs, Config(method="minmax", layers=(("body.0.body.0", 4, 4),))
    )
    assert sum(isinstance(m, FakeQuantConv2d) for m in alone.modules()) == 1
    again = sensitivity(network, inputs, PAIRS, Config(method="minmax"), (4,))
    mse = {row.name: row.losses[4].mse for row in again.layers}
    from ptqsr.evaluation.quality import super_resolve_luma

    ours = [
        super_resolve_luma(alone, low, "") - super_resolve_luma(network, low, "") for low in inputs
    ]
    rounded = float(torch.cat(ours)[..., 2:-2, 2:-2].pow(2).mean())
    assert mse["body.0.body.0"] == pytest.approx(rounded, rel=0.3, abs=0.2)  # those are 8 bits


def test_losses_add_up() -> None:
    """The prediction is near what the mixed network loses."""
    network, inputs = lively(), [low for low, _ in PAIRS]
    config = Config(method="minmax")
    choice = choose(sensitivity(network, inputs, PAIRS, config), target_bits=4.5)
    assert 4 < choice.mean_bits <= 4.5 and len(set(choice.bits.values())) > 1
    layers = tuple((name, bits, bits) for name, bits in choice.bits.items())
    quantized = ptqsr.calibrate(network, inputs, Config(method="minmax", layers=layers))
    with torch.no_grad():
        x = torch.cat([torch.from_numpy(low).permute(2, 0, 1)[None] / 255 for low in inputs])
        errors = (quantized(x).clamp(0, 1) - network(x).clamp(0, 1)).pow(2).mean()
    uniform = ptqsr.calibrate(network, inputs, Config(method="minmax", bits=4))
    with torch.no_grad():
        worse = (uniform(x).clamp(0, 1) - network(x).clamp(0, 1)).pow(2).mean()
    assert errors < worse


def test_without_true_pictures() -> None:
    inputs = [low for low, _ in PAIRS]
    found = sensitivity(
        lively(), inputs, [(low, None) for low in inputs], Config(method="minmax"), (4,)
    )
    assert not found.in_db and all(row.losses[4].drop is None for row in found.layers)
    with pytest.raises(PtqsrError, match="no pictures to measure on"):
        sensitivity(lively(), inputs, [], Config(method="minmax"))


def test_files(tmp_path: Path) -> None:
    measured = random_losses(3)
    path = tmp_path / "s.json"
    path.write_text(json.dumps(measured.to_json()))
    assert Sensitivity.read(path) == measured
    for text, words in (
        ("{", "is no JSON"),
        ("{}", "is not of `ptqsr sensitivity`"),
        (json.dumps({**measured.to_json(), "version": 9}), "version 9"),
        (json.dumps({**measured.to_json(), "layers": [{"name": "a"}]}), "damaged or edited"),
        (path.read_text().replace('"8"', '"9"'), "must be a whole number from 2 to 8"),
    ):
        path.write_text(text)
        with pytest.raises(PtqsrError, match=words):
            Sensitivity.read(path)
    with pytest.raises(PtqsrError, match="cannot be read"):
        Sensitivity.read(tmp_path / "none.json")


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = lively().state_dict()
    torch.save(state, "w.pt")
    torch.save({**state, "body.0.body.0.bias": state["body.0.body.0.bias"] + 1}, "other.pt")
    write_photograph(tmp_path / "pictures" / "a.png", 90, 160)
    network = ["--weights", "w.pt", "--method", "minmax"]
    few = ["--images", "pictures", "--num-images", "2", "--patch-size", "16"]

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        return result.output

    output = run("sensitivity", *network, *few, "--candidates", "3,8", "--json", "s.json")
    assert "body.1.body.2" in output and "3 bits" in output
    chosen = ["--sensitivity", "s.json", "--target-bits", "4.5"]
    output = run("calibrate", *network, *few, *chosen, "--json", "f.json")
    assert "PSNR drop, predicted and measured" in output
    figures = json.loads(Path("f.json").read_text())
    assert 3 <= figures["chosen"]["mean_bits"] <= 4.5
    assert abs(figures["chosen"]["predicted_drop"] - figures["chosen"]["measured_drop"]) < 0.5
    assert {row["act_bits"] for row in figures["plan"]} == {3, 8, 32}
    output = run("plan", *network, *chosen, "-o", "plan.json")
    mean, drop = figures["chosen"]["mean_bits"], figures["chosen"]["predicted_drop"]
    said = f"mean bits, weighted by MACs: {mean:.3f}; predicted loss: {drop:.3g} dB of PSNR"
    assert said in " ".join(output.split())
    layers = json.loads(Path("plan.json").read_text())["layers"]
    assert {n: row["act_bits"] for n, row in layers.items()} == {
        row["name"]: row["act_bits"] for row in figures["plan"]
    }
    run(
        "calibrate", *network, *few, "--max-drop", "1dB", "--candidates", "8", "-o", "8.safetensors"
    )
    for arguments, words in (
        (["--target-bits", "4", "--max-drop", "1"], "give one of them"),
        (["--max-drop", "loud"], "--max-drop loud: give a number of dB"),
        (["--candidates", "3"], "--candidates: goes with"),
        (["--target-bits", "4", "--candidates", "a"], "give bit-widths with commas"),
        (["--target-bits", "4", "--candidates", "9"], "must be a whole number from 2 to 8"),
        (["--target-bits", "4", "--bits", "4"], "says what --bits would"),
        ([*chosen, "--candidates", "3"], "says what --candidates would"),
        ([*chosen, "--exclude", "body.0.*"], "was measured, but is not quantized"),
        ([*chosen, "--include", "tail.1"], "layer tail.1 was not measured"),
        ([*chosen, "--method", "dfsq"], "is of EDSR".lower()),
        ([*chosen, "--weights", "other.pt"], "s.json: is of other weights"),
    ):
        assert words in run("calibrate", *network, *few, *arguments, code=2), arguments
    assert "--bits would" in run("plan", *network, *chosen, "--bits", "4", code=2)
    output = run("sensitivity", *network, "--selector", "kmeans", code=2)
    assert "--selector kmeans: is for --method dfsq or dfsq+, not minmax" in output
