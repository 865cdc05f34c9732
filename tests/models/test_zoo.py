"""The zoo: names, shapes, detection, weight files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import photograph
from safetensors.torch import save_file
from torch import nn

import ptqsr
from ptqsr import PtqsrError, models
from ptqsr.evaluation import cost
from ptqsr.images import to_levels, upscale
from ptqsr.models.layers import BicubicUpsample

SMALL = [
    ("edsr", dict(blocks=2, width=8)),
    ("edsr", dict(blocks=2, width=16, batch_norm=True)),
    ("rdn", dict(blocks=2, layers=3, growth=16, width=8)),
    ("srresnet", dict(blocks=2, width=16)),
    ("carn", dict(width=16)),
    ("carn_m", dict(width=16, groups=2)),
    ("idn", dict(width=32)),
    ("idn", dict(width=16, colours="y")),
    ("imdn", dict(blocks=2, width=32)),
]
# The authors' sizes, which one scale is enough for.
FULL = [("edsr", dict(blocks=1, width=256)), *((name, {}) for name in models.ARCHITECTURES)]
EVERY = [(*variant, scale) for variant in SMALL for scale in (2, 3, 4)]
EVERY += [(*variant, 4) for variant in FULL]


@pytest.mark.parametrize("name, hyperparameters, scale", EVERY, ids=str)
def test_build_save_load(tmp_path: Path, name: str, hyperparameters: dict, scale: int) -> None:
    network = models.build(name, scale=scale, weights=None, **hyperparameters)
    round_trip(network, tmp_path / "w.pt")


def test_every_architecture_has_variants() -> None:
    assert {name for name, _ in SMALL} == set(models.ARCHITECTURES)


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "npz"])
def test_formats(tmp_path: Path, tiny: models.SRNetwork, suffix: str) -> None:
    round_trip(tiny, tmp_path / f"w.{suffix}")


def round_trip(network: models.SRNetwork, path: Path) -> None:
    name, scale, suffix = network.architecture, network.scale, path.suffix[1:]
    state = network.state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    elif suffix == "npz":
        np.savez(path, **{k: v.numpy() for k, v in state.items()})
    else:
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    asked = {"scale": scale} if name == "idn" else {}  # whose files do not tell
    for again in (models.load(path, **asked), models.build(name, scale=scale, weights=path)):
        assert again.hyperparameters == network.hyperparameters
        x = torch.rand(1, 1 if network.colours == "y" else 3, 9, 7)
        with torch.no_grad():
            y = again(x)
            assert torch.equal(network(x), y)
        assert y.shape == (1, x.shape[1], 9 * scale, 7 * scale)
        rebuilt = type(again)(**again.hyperparameters)
        rebuilt.load_state_dict(again.state_dict())


AUTHOR_NAMES = {
    "edsr": "sub_mean.weight head.0.weight body.15.body.2.bias body.16.weight tail.0.2.weight "
    "tail.1.bias add_mean.bias",
    "rdn": "SFENet1.weight SFENet2.bias RDBs.15.convs.7.conv.0.weight RDBs.0.LFF.bias GFF.0.weight "
    "GFF.1.bias UPNet.0.weight UPNet.2.bias UPNet.4.weight",
    "srresnet": "conv_input.weight relu.weight residual.15.bn2.running_mean residual.0.relu.weight "
    "conv_mid.weight bn_mid.bias conv_output.weight",
    "carn": "sub_mean.shifter.bias entry.weight b3.b3.body.2.weight b1.c3.body.0.bias "
    "c3.body.0.bias upsample.up4.body.3.weight exit.bias",
    "carn_m": "b1.b1.body.4.weight b3.c1.body.0.weight upsample.up4.body.0.weight",
    "idn": "conv1.weight conv3_1.bias conv6_6.weight down4.bias upsample.weight",
    "imdn": "fea_conv.weight IMDB6.c5.bias IMDB1.cca.conv_du.2.weight c.0.weight LR_conv.bias "
    "upsampler.0.weight",
}


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_author_names(name: str) -> None:
    names = set(models.build(name, weights=None).state_dict())
    assert set(AUTHOR_NAMES[name].split()) <= names


def test_batch_norm_has_edsr_pytorchs_names() -> None:
    names = set(models.build("edsr", weights=None, batch_norm=True).state_dict())
    assert {"body.0.body.1.running_var", "body.0.body.3.weight", "body.0.body.4.bias"} <= names


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_rdn_of_the_other_common_names(tmp_path: Path, scale: int) -> None:
    network = models.build("rdn", scale=scale, weights=None, blocks=2, layers=2, growth=8, width=16)
    last = f"UPNet.{len(network.UPNet) - 1}."
    state = {}
    for name, tensor in network.state_dict().items():
        name = name.replace(last, "output.").replace("UPNet", "upscale").replace("SFENet", "sfe")
        name = name.replace("RDBs", "rdbs").replace(".convs.", ".layers.").replace("LFF", "lff")
        state[name.replace(".conv.0.", ".conv.").replace("GFF", "gff")] = tensor
    assert not set(state) & set(network.state_dict())
    torch.save(state, tmp_path / "rdn.pth")
    again = models.load(tmp_path / "rdn.pth")
    assert again.hyperparameters == {**network.hyperparameters, "value_range": 1.0}
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        assert torch.allclose(again(x), network(x / 255) * 255, atol=1e-5)


def test_a_carn_of_several_scales(tmp_path: Path) -> None:
    networks = {scale: models.build("carn", scale=scale, weights=None, width=8) for scale in (2, 3)}
    torch.save({**networks[2].state_dict(), **networks[3].state_dict()}, tmp_path / "carn.pth")
    assert models.load(tmp_path / "carn.pth").scale == 2
    three = models.load(tmp_path / "carn.pth", scale=3)
    assert torch.equal(three.exit.weight, networks[3].exit.weight)
    assert three.state_dict().keys() == networks[3].state_dict().keys()
    with pytest.raises(PtqsrError, match="is for scale 2, not 4"):
        models.load(tmp_path / "carn.pth", scale=4)
    state = {n.replace("up3", "up"): t for n, t in networks[3].state_dict().items()}
    torch.save(state, tmp_path / "single.pth")
    assert models.load(tmp_path / "single.pth").scale == 3


def test_a_file_that_does_not_tell_its_scale(tmp_path: Path) -> None:
    torch.save(models.build("idn", weights=None, width=16).state_dict(), tmp_path / "idn.pth")
    for attempt in (models.load, lambda path: models.build("idn", weights=path)):
        with pytest.raises(PtqsrError, match=r"idn\.pth: .* does not tell its scale; give --scale"):
            attempt(tmp_path / "idn.pth")
    assert models.load(tmp_path / "idn.pth", scale=3).scale == 3


@pytest.mark.parametrize("name", ["edsr", "carn"])
def test_the_value_range_shows_in_the_mean_colours(tmp_path: Path, name: str) -> None:
    state = models.build(name, weights=None).state_dict()
    for key in state:
        if "mean" in key and key.endswith("bias"):
            state[key] = state[key] / 255 if name == "edsr" else state[key] * 255
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(PtqsrError, match=r"bias says that it works on"):
        models.load(tmp_path / "w.pt")


def test_bicubic_is_that_of_the_low_resolution_pictures() -> None:
    """Exact to the rounding that pictures of 8 bits get between the two axes."""
    picture = photograph(11, 13)
    for scale in (2, 3, 4):
        expected = to_levels(upscale(picture, scale))
        found = BicubicUpsample(scale)(to_levels(picture).float())
        assert (found.clamp(0, 255) - expected).abs().max() < 1.3


def test_files_without_mean_colours_load(tmp_path: Path) -> None:
    state = models.build("edsr", weights=None, blocks=1, width=8).state_dict()
    torch.save({k: v for k, v in state.items() if "mean" not in k}, tmp_path / "w.pt")
    models.load(tmp_path / "w.pt")


@pytest.mark.parametrize("key", ["params", "state_dict", "params_ema"])
def test_wrapped_state_dicts(tmp_path: Path, key: str) -> None:
    state = models.build("imdn", weights=None, blocks=1, width=16).state_dict()
    torch.save({key: state, "epoch": 3}, tmp_path / "w.pth")
    assert models.load(tmp_path / "w.pth").hyperparameters["blocks"] == 1


@pytest.mark.shared
@pytest.mark.parametrize(
    "file, scale, psnr",
    [
        ("idn_x2.npz", 2, 37.81),
        ("idn_x4.npz", 4, 31.81),
        ("carn_m.pth", 2, 37.68),
        ("carn_m.pth", 4, 31.88),
        ("IMDN_x2.pth", 2, None),
        ("IMDN_x4.pth", 4, 32.21),
    ],
)
def test_authors_weights(shared: Path, file: str, scale: int, psnr: float | None) -> None:
    """They load as they are and give the PSNR on Set5 that is known of them."""
    network = models.load(shared / "weights" / file, scale=scale)
    assert network.scale == scale and network.colours == ("y" if "idn_" in file else "rgb")
    found = ptqsr.evaluate(network, shared / "data" / "Set5").psnr
    assert found == pytest.approx(psnr, abs=0.02) if psnr else found > 37.9


@pytest.mark.parametrize(
    "names",
    [
        ["head.0.weight", "tail.0.0.weight"],
        ["fea_conv.weight", "upsampler.0.weight"],
        ["SFENet1.weight", "UPNet.0.weight", "RDBs.0.convs.0.conv.0.weight"],
        ["conv_input.weight", "upscale.0.weight"],
        ["entry.weight", "b1.b1.body.0.weight", "upsample.up.body.0.weight"],
        ["conv1.weight", "conv3_1.weight", "upsample.weight"],
    ],
    ids=lambda names: names[0],
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (64, 0, 3, 3)])
def test_odd_shapes_are_refused(tmp_path: Path, names: list[str], shape: tuple[int, ...]) -> None:
    torch.save({name: torch.zeros(shape) for name in names}, tmp_path / "odd.pt")
    with pytest.raises(PtqsrError, match=r"odd\.pt"):
        models.load(tmp_path / "odd.pt")


def test_unknown(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(PtqsrError, match=r"linear\.pt.*begin with weight"):
        models.load(tmp_path / "linear.pt")
    with pytest.raises(PtqsrError, match="'vdsr' is unknown"):
        models.build("vdsr")
    with pytest.raises(PtqsrError, match="scale 5"):
        models.build("edsr", scale=5)
    with pytest.raises(PtqsrError, match="depth"):
        models.build("edsr", weights=None, depth=3)
    with pytest.raises(PtqsrError, match="no weights of imdn x3 are bundled"):
        models.build("imdn", scale=3)


def test_scale_that_contradicts_the_file(tmp_path: Path) -> None:
    state = models.build("edsr", scale=2, weights=None, blocks=1, width=8).state_dict()
    torch.save(state, tmp_path / "x2.pt")
    with pytest.raises(PtqsrError, match="for scale 2, not 4"):
        models.build("edsr", scale=4, weights=tmp_path / "x2.pt")
    assert models.build("edsr", scale=None, weights=tmp_path / "x2.pt").scale == 2


def test_wrap() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )
    network = models.wrap(module, scale=2, value_range=255)
    x = torch.rand(1, 3, 5, 6)
    assert torch.equal(network(x), module(x * 255) / 255)
    assert network.quantized_layers == ("module.1",)


class Plain(nn.Module):
    """Constants that are no buffers: an attribute, and one made in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.tensor([0.4, 0.4, 0.4]).view(1, 3, 1, 1)
        self.convs = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convs(x - self.mean) + torch.tensor([0.4, 0.4, 0.4]).view(1, 3, 1, 1)


def test_a_sketch_takes_plain_constants_along() -> None:
    network = models.wrap(Plain(), scale=1)
    picture = photograph(9, 12)
    quantized = ptqsr.calibrate(network, picture, ptqsr.Config(method="minmax"))
    assert cost(quantized).macs == 3 * 27 * 3 * 1080 * 1920
    assert ptqsr.upscale(quantized, picture).shape == picture.shape
    assert quantized.module.mean.device.type == "cpu"


def test_use_leaves_the_mode_and_the_statistics_of_training() -> None:
    network = models.build("edsr", scale=2, weights=None, blocks=1, width=8, batch_norm=True)
    picture = photograph(12, 9)
    expected = ptqsr.upscale(network, picture)
    network.train()
    network.tail.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert np.array_equal(ptqsr.upscale(network, picture), expected)
    ptqsr.evaluate(network, [(picture, photograph(24, 18))])
    assert network.training and network.body.training and not network.tail.training
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_a_name_that_contradicts_the_scale(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(models.build("idn", weights=None, width=16).state_dict(), tmp_path / "idn_x2.pth")
    assert models.load(tmp_path / "idn_x2.pth", scale=4).scale == 4
    assert "is taken for x4, though its name says x2" in caplog.text
    caplog.clear()
    models.load(tmp_path / "idn_x2.pth", scale=2)
    assert not caplog.text


def test_prefixes_of_data_parallel(tmp_path: Path, tiny: models.SRNetwork) -> None:
    state = {f"module.module.{name}": t for name, t in tiny.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    assert models.load(tmp_path / "w.pt").hyperparameters == tiny.hyperparameters


def test_wrapping_keeps_the_mode() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    models.wrap(module, scale=1)
    assert module.training
