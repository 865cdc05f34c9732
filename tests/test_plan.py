"""Plans: what is quantized and why, as rows and as files that users edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_photograph
from torch import nn
from typer.testing import CliRunner

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr import plan as plans
from ptqsr.cli.app import app
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import SubsetQuantizer

pytestmark = pytest.mark.usefixtures("one_thread")


def bits(network: nn.Module) -> dict[str, tuple[int, int]]:
    layers = {n: m for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)}
    return {name: (layer.weight_bits, layer.act_bits) for name, layer in layers.items()}


def test_rows(tiny: models.SRNetwork) -> None:
    config = Config(bits=4, act_bits=6, exclude=("body.0.*",), include=("head.0",), edges=8)
    rows = {row.name: row for row in plans.plan(tiny, config)}
    assert (rows["body.1.body.0"].weight_bits, rows["body.1.body.0"].act_bits) == (4, 6)
    assert (rows["head.0"].act_bits, rows["tail.1"].act_bits) == (6, 8)
    assert not rows["body.0.body.0"].quantized and rows["body.0.body.0"].reason == "excluded"
    quantized = {row.name for row in rows.values() if row.quantized}
    assert quantized == plans.rules(tiny, config).keys()


def test_a_plan_says_what_calibrate_does(
    tiny: models.SRNetwork, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    plans.write(plans.plan(tiny, Config(bits=4)), path, tiny)
    same = ptqsr.calibrate(
        tiny, pictures, Config(selector="optimal", layers=plans.read(path, tiny))
    )
    expected = ptqsr.calibrate(tiny, pictures, Config(bits=4, selector="optimal"))
    assert bits(same) == bits(expected)
    ours, theirs = same.state_dict(), expected.state_dict()
    assert all((ours[name] == theirs[name]).all() for name in theirs)

    whole = json.loads(path.read_text())
    whole["layers"]["body.0.body.0"] |= {"weight_bits": 3, "act_bits": 6}
    whole["layers"]["body.0.body.2"]["quantized"] = False
    whole["layers"]["tail.1"] |= {"quantized": True, "weight_bits": 8, "act_bits": 5}
    path.write_text(json.dumps(whole))
    mixed = ptqsr.calibrate(
        tiny, pictures, Config(selector="optimal", layers=plans.read(path, tiny))
    )
    assert bits(mixed) == {
        **{"body.0.body.0": (3, 6), "body.1.body.0": (4, 4), "body.1.body.2": (4, 4)},
        "tail.1": (8, 5),
    }
    edge = mixed.get_submodule("tail.1").quantizer
    assert isinstance(edge, SubsetQuantizer) and edge.universal_set.name == "int8"
    ptqsr.save(mixed, tmp_path / "net.safetensors")
    again = ptqsr.load(tmp_path / "net.safetensors")
    assert bits(again) == bits(mixed) and again.calibration == mixed.calibration
    assert bits(ptqsr.deploy(again)) == {}


def edited(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda whole: whole["layers"]["body.0.body.0"].update({key: value})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda w: w["layers"].update({"body.9": {"quantized": False}}), "layer body.9 is not in"),
        (lambda w: w["layers"].pop("tail.1"), "says nothing of layer tail.1"),
        (lambda w: w["layers"].update({"tail.1": 4}), "layer tail.1: give quantized"),
        (edited("quantized", "yes"), "layer body.0.body.0: quantized is 'yes'"),
        (edited("act_bits", 9), "layer body.0.body.0: act_bits is 9"),
        (edited("weight_bits", None), "layer body.0.body.0: weight_bits is None"),
        (edited("colour", "red"), "layer body.0.body.0: colour is unknown; remove it"),
        (lambda w: w.update(version=2), "version 2; this is 1"),
        (lambda w: w.update(format="a plan"), "is not of `ptqsr plan`"),
        (lambda w: w.update(layers=[]), "has no layers"),
        (lambda w: [r.update(quantized=False) for r in w["layers"].values()], "no layer is"),
    ],
)
def test_mistakes(
    edit: Callable[[dict[str, Any]], Any], words: str, tiny: models.SRNetwork, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    plans.write(plans.plan(tiny, Config()), path, tiny)
    whole = json.loads(path.read_text())
    edit(whole)
    path.write_text(json.dumps(whole))
    with pytest.raises(PtqsrError, match=r"plan\.json: ") as error:
        plans.read(path, tiny)
    assert words in str(error.value)


def test_no_plan_at_all(tiny: models.SRNetwork, tmp_path: Path) -> None:
    with pytest.raises(PtqsrError, match="cannot be read"):
        plans.read(tmp_path / "none.json", tiny)
    (tmp_path / "words.json").write_text("{")
    with pytest.raises(PtqsrError, match="is no JSON"):
        plans.read(tmp_path / "words.json", tiny)


def test_layers_of_a_config(tiny: models.SRNetwork, pictures: list[np.ndarray]) -> None:
    config = Config(layers=(("body.0.body.0", 4, 4),))
    assert Config.from_json(config.to_json()) == config
    with pytest.raises(PtqsrError, match="layer x: act_bits is 1"):
        Config(layers=(("x", 4, 1),))
    with pytest.raises(PtqsrError, match="layers: one is named twice"):
        Config(layers=(("x", 4, 4), ("x", 8, 8)))
    with pytest.raises(PtqsrError, match=r"layers: give \(name, bits of weights"):
        Config(layers={"conv": 4})  # type: ignore[arg-type]
    with pytest.raises(PtqsrError, match="leave out include"):
        Config(layers=(("x", 4, 4),), edges=8)
    with pytest.raises(PtqsrError, match="layer nowhere: is not in the network"):
        ptqsr.calibrate(tiny, pictures, Config(layers=(("nowhere", 4, 4),)))


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_photograph(tmp_path / "pictures" / "a.png", 80, 160)
    small = ["--model", "edsr", "--scale", "2", "--weights", "w.pt"]
    import torch

    net = models.build("edsr", scale=2, weights=None, blocks=1, width=8)
    torch.save(net.state_dict(), "w.pt")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, *small])
        assert result.exit_code == code, result.output
        return result.output

    output = run("plan", "-o", "plan.json", "--weight-bits", "8", "--edges", "8")
    assert "6 of 6 layers quantized" in output
    assert "ptqsr calibrate --model edsr --scale 2 --weights w.pt --plan plan.json" in output
    assert "--target-bits: needs --sensitivity" in run("plan", "--target-bits", "5", code=2)
    few = ["--images", "pictures", "--num-images", "2", "--patch-size", "12"]
    output = run("calibrate", "--plan", "plan.json", *few, "--json", "f.json")
    assert "mixed bits" in output
    assert Path("edsr_x2_dfsq_mixed.safetensors").is_file()
    figures = json.loads(Path("f.json").read_text())
    assert {row["name"]: row["act_bits"] for row in figures["plan"]}["tail.1"] == 8
    assert "--plan: says what --bits would" in run(
        "calibrate", "--plan", "plan.json", "--bits", "4", code=2
    )
    Path("notes.json").write_text("[]")
    assert "exists and is no plan" in run("plan", "-o", "notes.json", code=2)
    text = Path("plan.json").read_text().replace("head.0", "head.7")
    Path("plan.json").write_text(text)
    output = run("calibrate", "--plan", "plan.json", *few, code=2)
    assert "plan.json: layer head.7 is not in the network" in output
