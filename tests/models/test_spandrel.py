"""Networks that are not of our zoo, from their weights alone, through the whole of ptqsr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photograph, write_photograph
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import ptqsr
from ptqsr import Config, PtqsrError, checkpoint, models
from ptqsr.cli.app import app
from ptqsr.models import from_spandrel
from ptqsr.modules import FakeQuantConv2d
from ptqsr.plan import plan

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not from_spandrel.installed(), reason=f"needs {from_spandrel.INSTALL}"),
]

# Hyperparameters, and how many layers are quantized.
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "RCAN": (dict(scale=2, n_resgroups=1, n_resblocks=2, n_feats=16, reduction=4), 6),
    "SPAN": (dict(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2), 19),
    "ESRGAN": (dict(scale=2, num_filters=16, num_blocks=1), 16),
    "Compact": (dict(upscale=2, num_feat=16, num_conv=2), 2),
}
EVERY = pytest.mark.parametrize("family", NETWORKS)


def weights(folder: Path, family: str, settings: Mapping[str, Any], channels: int = 3) -> Path:
    """Save random weights of one of spandrel's networks."""
    from_spandrel._spandrel()
    torch.manual_seed(0)
    home = import_module(f"spandrel.architectures.{family}")
    network = getattr(home, family)(**settings).eval()
    with torch.no_grad():
        network(torch.rand(1, channels, 16, 16))  # what it makes of its weights as it runs
    state = network.state_dict()
    if family == "SPAN":
        state["upsampler.0.weight"] /= 255  # it works on grey levels, and gives [0, 1]
    torch.save(state, folder / f"{family.lower()}.pth")
    return folder / f"{family.lower()}.pth"


@EVERY
@torch.no_grad()
def test_calibrated_saved_and_deployed(family: str, tmp_path: Path) -> None:
    settings, count = NETWORKS[family]
    path = weights(tmp_path, family, settings)
    network = models.load(path)
    assert (network.title, network.scale) == (family, 2)
    pictures = [photograph(24, 28, seed) for seed in range(2)]
    quantized = ptqsr.calibrate(network, pictures, Config(bits=6, selector="optimal"))
    layers = [m for m in quantized.modules() if isinstance(m, FakeQuantConv2d)]
    assert len(layers) == count
    x = torch.rand(2, 3, 17, 23)
    given, expected = x.clone(), quantized(x)
    assert torch.equal(x, given), "the network changed its input"
    assert torch.equal(quantized(x), expected), "the network changed its weights"
    assert 0 < (expected - network(x)).abs().max() < 0.5

    saved = tmp_path / "net.safetensors"
    ptqsr.save(quantized, saved)
    again = ptqsr.load(saved)
    assert torch.equal(again(x), expected)
    assert again.places().keys() == network.places().keys()

    deployed = ptqsr.deploy(again)
    assert deployed.plan.reason is None
    assert len(list(deployed.plan.convolutions)) == count
    pairs = [(photograph(20, 26, seed), photograph(40, 52, seed)) for seed in (5, 6)]
    simulated = ptqsr.evaluate(again, pairs).psnr
    assert abs(ptqsr.evaluate(deployed, pairs).psnr - simulated) < 0.02
    lost = (expected - network(x)).pow(2).mean()
    assert (deployed(x) - expected).pow(2).mean() < lost
    large = ptqsr.upscale(deployed, pairs[0][0])
    assert large.shape == (40, 52, 3) and large.dtype == np.uint8


@EVERY
@torch.no_grad()
def test_as_spandrel_computes(family: str, tmp_path: Path) -> None:
    path = weights(tmp_path, family, NETWORKS[family][0])
    x = torch.rand(1, 3, 19, 22)
    spandrel = from_spandrel._spandrel()
    descriptor = spandrel.ModelLoader().load_from_file(path)
    y = models.load(path)(x).clamp(0, 1)
    assert torch.allclose(descriptor(x.clone()), y, atol=1e-4)


def test_what_is_quantized_is_named(tmp_path: Path) -> None:
    network = models.load(weights(tmp_path, "RCAN", NETWORKS["RCAN"][0]))
    rows = {row.name.removeprefix("module."): row for row in plan(network, Config())}
    reasons = {name: row.reason for name, row in rows.items() if not row.quantized}
    assert reasons.pop("sub_mean") == reasons.pop("head.0") == "reads the picture"
    late = {name for name, why in reasons.items() if why.startswith("comes after the last")}
    assert late == {"tail.0.0", "tail.1", "add_mean"}
    gates = {name for name, why in reasons.items() if why.startswith("reads one value")}
    assert gates == reasons.keys() - late and all("conv_du" in name for name in gates)
    assert rows["body.1"].quantized and rows["body.0.body.0.body.0"].quantized


SWINIR = dict(
    **dict(img_size=16, embed_dim=8, depths=[1], num_heads=[2], window_size=8, mlp_ratio=2),
    **dict(upscale=2, upsampler="pixelshuffledirect"),
)


def test_attention_is_named_and_linear_layers_run_in_integers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = models.load(weights(tmp_path, "SwinIR", SWINIR))
    quantized = ptqsr.calibrate(network, [photograph(16, 16)], Config(method="minmax", bits=8))
    assert "stays in floating point: module.layers.0" in caplog.text
    assert "multiplies features by each other (attention)" in caplog.text
    names = {name for name, m in quantized.named_modules() if isinstance(m, FakeQuantConv2d)}
    assert "module.layers.0.residual_group.blocks.0.mlp.fc1.conv" in names
    ptqsr.save(quantized, tmp_path / "net.safetensors")
    again = ptqsr.load(tmp_path / "net.safetensors")
    x = torch.rand(1, 3, 13, 16)
    with torch.no_grad():
        assert torch.equal(again(x), quantized(x))
        deployed = ptqsr.deploy(again)
        assert "cannot be traced" in caplog.text
        assert torch.allclose(deployed(x), quantized(x), atol=1e-3)


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights(tmp_path, "RCAN", NETWORKS["RCAN"][0])
    write_photograph(tmp_path / "pictures" / "a.png", 90, 200)
    few = ["--images", "pictures", "--num-images", "2", "--patch-size", "12"]
    run = CliRunner().invoke(app, ["calibrate", "--weights", "rcan.pth", *few])
    assert run.exit_code == 0, run.output
    assert "conv_du.0" in run.output and "reads one value of each channel" in run.output
    made = tmp_path / "rcan_x2_dfsq_w4a4.safetensors"
    assert made.is_file()
    for command in (
        ["evaluate", made.name, "rcan.pth", "--data", "pictures"],
        ["upscale", "pictures", "large", "--checkpoint", made.name, "--deploy"],
        ["info", made.name],
    ):
        run = CliRunner().invoke(app, command)
        assert run.exit_code == 0, run.output
    assert (tmp_path / "large" / "a.png").is_file()


def test_without_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights(tmp_path, "Compact", NETWORKS["Compact"][0])
    quantized = ptqsr.calibrate(models.load(path), [photograph(16, 16)], Config(method="minmax"))
    ptqsr.save(quantized, tmp_path / "net.safetensors")
    monkeypatch.setattr(from_spandrel, "find_spec", lambda name: None)
    with pytest.raises(PtqsrError, match=r"spandrel\]\" adds 40 architectures"):
        models.load(path)
    with pytest.raises(PtqsrError, match=r"net\.safetensors: .*not installed: pip install"):
        ptqsr.load(tmp_path / "net.safetensors")


def test_no_stand_in_for_torchvision_stays() -> None:
    from_spandrel._spandrel()
    names = [name for name in sys.modules if name.partition(".")[0] == "torchvision"]
    assert all(vars(sys.modules[name]).get("__file__") for name in names)


def test_grey_and_other_channels(tmp_path: Path) -> None:
    grey = weights(tmp_path, "Compact", dict(num_in_ch=1, num_out_ch=1, num_feat=8, upscale=3), 1)
    network = models.load(grey)
    assert (network.colours, network.scale) == ("y", 3)
    two = weights(tmp_path, "Compact", dict(num_in_ch=2, num_out_ch=2, num_feat=8), 2)
    with pytest.raises(PtqsrError, match="takes pictures of 2 channels, which ptqsr does not"):
        models.load(two)


def test_damaged_weights(tmp_path: Path) -> None:
    path = weights(tmp_path, "Compact", NETWORKS["Compact"][0])
    state = torch.load(path, weights_only=True)
    del state["body.2.bias"]
    torch.save(state, path)
    with pytest.raises(PtqsrError, match=r"compact\.pth: fits no network of spandrel's"):
        models.load(path)
    torch.save({"body.0.weight": torch.rand(4, 3, 3, 3), "body.1.weight": torch.rand(4),
                "body.90000000.bias": torch.rand(12)}, path)  # fmt: skip
    with pytest.raises(PtqsrError, match="far larger than its tensors"):
        models.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(family="os"), "has no os Compact"),
        (dict(family="Compact.__arch"), "has no Compact.__arch"),
        (dict(kind="CompactArch"), "has no Compact CompactArch"),
        (dict(kind="nn"), "has no Compact nn"),
        (dict(settings={"num_feat": 1 << 20}), "far larger|cannot be built|no memory"),
        (dict(settings={"num_conv": 1 << 30}), "far larger"),
        (dict(settings={"widgets": 3}), "cannot be built"),
        (dict(settings={"num_conv": 3}), "module.body"),
        (dict(multiple_of=1 << 30), "give at most 512 pixels"),
    ],
)
def test_hostile_manifests(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = weights(tmp_path, "Compact", NETWORKS["Compact"][0])
    quantized = ptqsr.calibrate(models.load(path), [photograph(16, 16)], Config(method="minmax"))
    saved = tmp_path / "net.safetensors"
    ptqsr.save(quantized, saved)
    manifest, tensors = checkpoint.read(saved)
    manifest["hyperparameters"].update(change)
    with safe_open(saved, "pt") as file:
        metadata = dict(file.metadata())
    text = json.dumps(manifest)
    metadata |= {"manifest": text, "sha256": checkpoint._digest(text, tensors)}
    save_file(tensors, saved, metadata)
    with pytest.raises(PtqsrError, match=words):
        ptqsr.load(saved)
