"""Networks that are not of our zoo, from their weights alone, through the whole of ptqsr."""

from __future__ import annotations

import json
import shutil
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
    "RCAN": (dict(scale=2, n_resgroups=1, n_resblocks=1, n_feats=8, reduction=4), 4),
    "SPAN": (dict(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2), 19),
    "ESRGAN": (dict(scale=2, num_filters=8, num_blocks=1), 16),
    "Compact": (dict(upscale=2, num_feat=8, num_conv=2), 2),
}
EVERY = pytest.mark.parametrize("family", NETWORKS)
PICTURES = [photograph(24, 28, seed) for seed in range(2)]


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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of every family."""
    folder = tmp_path_factory.mktemp("weights")
    return {family: weights(folder, family, row[0]) for family, row in NETWORKS.items()}


@pytest.fixture(scope="module")
def checkpoints(files: dict[str, Path]) -> dict[str, Path]:
    """The same quantized."""
    config = Config(bits=6, selector="optimal")
    found = {family: path.with_suffix(".safetensors") for family, path in files.items()}
    for family, path in found.items():
        ptqsr.save(ptqsr.calibrate(models.load(files[family]), PICTURES, config), path)
    return found


@EVERY
@torch.no_grad()
def test_calibrated_saved_and_deployed(
    family: str, files: dict[str, Path], checkpoints: dict[str, Path]
) -> None:
    network, count = models.load(files[family]), NETWORKS[family][1]
    assert (network.title, network.scale) == (family, 2)
    quantized = ptqsr.load(checkpoints[family])
    assert quantized.places().keys() == network.places().keys()
    layers = [m for m in quantized.modules() if isinstance(m, FakeQuantConv2d)]
    assert len(layers) == count
    x = torch.rand(2, 3, 17, 23)
    given, expected, floating = x.clone(), quantized(x), network(x)
    assert torch.equal(x, given), "the network changed its input"
    assert torch.equal(quantized(x), expected), "the network changed its weights"
    assert 0 < (expected - floating).abs().max() < 0.5

    deployed = ptqsr.deploy(quantized)
    assert deployed.title == family and deployed.plan.reason is None
    assert len(list(deployed.plan.convolutions)) == count
    assert (deployed(x) - expected).pow(2).mean() < (expected - floating).pow(2).mean()
    pairs = [(photograph(20, 26, seed), photograph(40, 52, seed)) for seed in (5, 6)]
    simulated = ptqsr.evaluate(quantized, pairs).psnr
    assert abs(ptqsr.evaluate(deployed, pairs).psnr - simulated) < 0.02
    large = ptqsr.upscale(deployed, pairs[0][0])
    assert large.shape == (40, 52, 3) and large.dtype == np.uint8


def test_saved_is_calibrated(files: dict[str, Path], tmp_path: Path) -> None:
    """SPAN makes its weights anew as it runs."""
    quantized = ptqsr.calibrate(models.load(files["SPAN"]), PICTURES, Config(method="minmax"))
    ptqsr.save(quantized, tmp_path / "net.safetensors")
    x = torch.rand(2, 3, 17, 23)
    with torch.no_grad():
        assert torch.equal(ptqsr.load(tmp_path / "net.safetensors")(x), quantized(x))


@EVERY
@torch.no_grad()
def test_as_spandrel_computes(family: str, files: dict[str, Path]) -> None:
    x = torch.rand(1, 3, 19, 22)
    spandrel = from_spandrel._spandrel()
    descriptor = spandrel.ModelLoader().load_from_file(files[family])
    y = models.load(files[family])(x).clamp(0, 1)
    assert torch.allclose(descriptor(x.clone()), y, atol=1e-4)


def test_what_is_quantized_is_named(files: dict[str, Path]) -> None:
    network = models.load(files["RCAN"])
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


def test_on_the_command_line(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(files["RCAN"], tmp_path)
    write_photograph(tmp_path / "pictures" / "a.png", 90, 200)
    few = ["--images", "pictures", "--num-images", "2", "--patch-size", "12"]
    few += ["--selector", "optimal"]
    run = CliRunner().invoke(app, ["calibrate", "--weights", "rcan.pth", *few])
    assert run.exit_code == 0, run.output
    assert "conv_du.0" in run.output and "reads one value of each channel" in run.output
    made = tmp_path / "rcan_x2_dfsq_w4a4.safetensors"
    assert made.is_file()
    for command in (
        ["evaluate", made.name, "rcan.pth", "--data", "pictures"],
        ["upscale", "pictures", "large", "--checkpoint", made.name, "--deploy"],
        ["info", made.name],
        ["report", made.name, "--data", "pictures", "--crops", "1", "--crop-size", "12"],
    ):
        run = CliRunner().invoke(app, command)
        assert run.exit_code == 0, run.output
    assert (tmp_path / "large" / "a.png").is_file()
    assert "RCAN x2" in (tmp_path / "report.html").read_text()
    run = CliRunner().invoke(app, ["report", made.name, "--weights", str(files["SPAN"])])
    assert run.exit_code == 2 and "is another network, SPAN x2" in run.stderr


def test_finetuned(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        write_photograph(tmp_path / "pictures" / f"{i}.png", 48, 56, i)
    job = [
        *("finetune", "--weights", str(files["SPAN"]), "--images", "pictures", "-o", "run"),
        *("--steps", "2", "--batch-size", "2", "--patch-size", "8", "--validation-images", "1"),
    ]
    run = CliRunner().invoke(app, job)
    assert run.exit_code == 2 and "give --skt-weight 0" in run.output
    run = CliRunner().invoke(app, [*job, "--skt-weight", "0"])
    assert run.exit_code == 0 and "SPAN x2, pams" in run.output
    network = ptqsr.load("run/quantized.safetensors")
    deployed = ptqsr.deploy(network)
    assert len(list(deployed.plan.convolutions)) == NETWORKS["SPAN"][1]
    x = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        assert torch.allclose(deployed(x), network(x), atol=1e-3)


def test_without_spandrel(
    files: dict[str, Path], checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_spandrel, "find_spec", lambda name: None)
    with pytest.raises(PtqsrError, match=r"spandrel\]\" adds 40 architectures"):
        models.load(files["Compact"])
    with pytest.raises(PtqsrError, match=r"compact\.safetensors: .*not installed: pip install"):
        ptqsr.load(checkpoints["Compact"])


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


def test_damaged_weights(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "compact.pth"
    state = torch.load(files["Compact"], weights_only=True)
    del state["body.2.bias"]
    torch.save(state, path)
    with pytest.raises(PtqsrError, match=r"compact\.pth: fits no network of spandrel's"):
        models.load(path)
    torch.save({"body.0.weight": torch.rand(4, 3, 3, 3), "body.1.weight": torch.rand(4),
                "body.90000000.bias": torch.rand(12)}, path)  # fmt: skip
    with pytest.raises(PtqsrError, match="far larger than its tensors"):
        models.load(path)
    narrow = dict(embed_dim=12, depth=[1], num_heads=[2], upscale=2, split_size=[2, 4])
    torch.save(from_spandrel.build("DAT", "DAT", narrow).state_dict(), path)
    with pytest.raises(PtqsrError, match=r"compact\.pth: DAT of spandrel does not run with these"):
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
def test_hostile_manifests(
    change: dict[str, Any], words: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    saved = tmp_path / "net.safetensors"
    manifest, tensors = checkpoint.read(checkpoints["Compact"])
    manifest["hyperparameters"].update(change)
    with safe_open(checkpoints["Compact"], "pt") as file:
        metadata = dict(file.metadata())
    text = json.dumps(manifest)
    metadata |= {"manifest": text, "sha256": checkpoint._digest(text, tensors)}
    save_file(tensors, saved, metadata)
    with pytest.raises(PtqsrError, match=words):
        ptqsr.load(saved)
