"""Networks as ONNX: what they compute in ONNX Runtime and OpenVINO, and how."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lowering.cases import psnr, wrapped
from torch import nn

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.exporting import onnx_graph
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import OffsetQuantizer, Offsets, UniformQuantizer

from .cases import SIZES, VARIANTS, constants, exported, given, run, small, worst

pytestmark = pytest.mark.usefixtures("one_thread")
for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name, reason='needs pip install "ptqsr[onnx]"')
EVERY = pytest.mark.parametrize("variant", VARIANTS)


@EVERY
def test_other_sizes_than_the_traced_one(variant: str) -> None:
    """Pixel shuffles, slopes, shortcuts, concatenations: at any size what they were at that one."""
    network, made = exported(variant)
    floor = min(check.psnr for check in made.checks) - 3
    for size in SIZES:
        x = given(network, size)
        assert worst(network, run(made.path, x), x) > max(floor, 28), size


@EVERY
def test_every_static_layer_runs_in_integers(variant: str) -> None:
    """But one that reads the picture itself."""
    network, made = exported(variant)
    static = [n for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)]
    integer = {name.partition("#")[0] for name in made.integer}
    assert integer == set(static) - {static[0]} and made.unfused == (static[0],)
    assert not set(made.floating) & set(static)


@pytest.mark.parametrize("variant", ["edsr_bn", "mixture"])
def test_openvino(variant: str) -> None:
    openvino = pytest.importorskip("openvino", reason='needs pip install "ptqsr[peers]"')
    network, made = exported(variant)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(made.path, "CPU", settings)
    floor = min(check.psnr for check in made.checks) - 3
    for size in SIZES:
        x = given(network, size)
        assert worst(network, torch.from_numpy(compiled([x.numpy()])[0]), x) > floor, size
    kinds = Counter(
        (about["layerType"].astype(str), about["runtimePrecision"].astype(str))
        for about in (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
    )
    # The first layer, too: OpenVINO's integer convolutions give floats.
    assert kinds["Convolution", "u8"] >= len(made.integer)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/export.md does with the files that its commands write."""
    pytest.importorskip("openvino", reason='needs pip install "ptqsr[peers]"')
    network, made = exported("edsr_bn")
    monkeypatch.chdir(tmp_path)
    shutil.copy(made.path, "edsr.onnx")
    ptqsr.export(network, "edsr.pt2")
    page = Path(__file__).resolve().parents[2] / "docs" / "export.md"
    examples = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    outputs = []
    for example in examples:
        exec(example, names)
        outputs.append(torch.as_tensor(names["large"]))
    assert len(outputs) == 3 and outputs[0].shape == (1, 3, 60, 82)
    assert all(psnr(large, outputs[0]) > 30 for large in outputs[1:])
    assert json.loads(names["extra"]["ptqsr.json"])["scale"] == "2"


def test_dfsq_in_standard_operations(tmp_path: Path) -> None:
    import onnx

    network = small("dfsq", bits=4, selector="optimal")
    made = ptqsr.export(network, tmp_path / "q.onnx")
    assert not made.integer and not made.quantized_results
    model = onnx.load(made.path)
    assert [opset.domain for opset in model.opset_import] == [""]
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph.node) == 2  # weights
    for size in (*SIZES, (1, 1, 1)):
        x = given(network, size)
        assert worst(network, run(made.path, x), x) > 50, size
    kept = constants(made.path)
    assert sum(array.dtype == np.int8 and array.ndim == 4 for array in kept.values()) == 2


def test_a_wrong_order_of_pixels_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What verification is for: at both sizes all shapes are right, and most pixels nearly."""
    finish = onnx_graph.finish

    def wrong(model: Any, ranges: Any) -> dict[str, int]:
        made = finish(model, ranges)
        (shuffle,) = (node for node in model.graph if node.op_type == "DepthToSpace")
        assert shuffle.attributes["mode"].as_string() == "CRD"  # PyTorch's order
        del shuffle.attributes["mode"]  # by default that of TensorFlow
        return made

    monkeypatch.setattr(onnx_graph, "finish", wrong)
    network = models.wrap(
        chain(nn.Conv2d(8, 8, 1), nn.PixelShuffle(2), nn.Conv2d(2, 8, 1)), scale=2
    )
    with pytest.raises(PtqsrError, match=r"at 40x56 the exported network differs by .* dB"):
        ptqsr.export(network, tmp_path / "q.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_the_file_says_of_itself() -> None:
    import onnx

    network, made = exported("edsr_bn")
    model = onnx.load(made.path)
    said = {each.key: each.value for each in model.metadata_props}
    assert (said["method"], said["scale"], said["architecture"]) == ("minmax", "2", "edsr")
    assert (said["weight_bits"], said["act_bits"], said["colours"]) == ("8", "8", "rgb")
    assert Config.from_json(said["config"]) == network.calibration
    assert json.loads(said["hyperparameters"]) == network.hyperparameters
    assert json.loads(said["layers"])["head.0"] == {
        "kind": "uniform",
        "weight_bits": 8,
        "act_bits": 8,
    }
    shapes = [
        [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [["batch", 3, "height", "width"], ["batch", 3, "2*height", "2*width"]]
    assert str(Path.cwd()).encode() not in Path(made.path).read_bytes()  # no traces of this machine


def test_weights_are_integers() -> None:
    network, made = exported("edsr_bn")
    kept = constants(made.path)
    layer = network.get_submodule("tail.0.0")
    assert isinstance(layer, FakeQuantConv2d)
    codes, step = kept["tail.0.0.codes"], kept["tail.0.0.weight_step"]
    assert codes.dtype == np.int8 and step.shape == (64,)
    apart = codes * step.reshape(-1, 1, 1, 1) - layer.weight.numpy()
    # Nothing was folded into this layer; 8 bits are rounded to 127 levels on either side.
    assert np.abs(apart).max() <= layer.weight.abs().max().item() / 127 / 2 * 1.001


def chain(*between: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *between, nn.Conv2d(8, 3, 3, padding=1)
    ).eval()


def convs(*kinds: Any) -> list[nn.Module]:
    made: list[nn.Module] = []
    for kind in kinds:
        made += [nn.Conv2d(8, 8, 3, padding=1), kind]
    return made


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * -2.0 / 0.5


def quantizers_of(network: SRNetwork) -> list[FakeQuantConv2d]:
    return [m for m in network.modules() if isinstance(m, FakeQuantConv2d)]


def levels(network: SRNetwork) -> None:
    """As PAMS: as many levels on either side of 0, also behind a ReLU."""
    for layer in quantizers_of(network):
        step, lowest = torch.tensor(0.004), torch.tensor(-127, dtype=torch.int32)
        layer.quantizer = UniformQuantizer(step, lowest, bits=8, levels=255)


def offsets(network: SRNetwork) -> None:
    """As ODM: channels are shifted and scaled first."""
    for number, layer in enumerate(quantizers_of(network)):
        shift = Offsets.from_float(torch.linspace(-0.2, 0.2, 8))
        gain = Offsets.from_float(torch.linspace(0.5, 1.5, 8))
        layer.quantizer = OffsetQuantizer(
            torch.tensor(0.01),
            torch.tensor(-9, dtype=torch.int32),
            bits=6,
            shift=None if number == 1 else shift,
            gain=gain,
        )


@pytest.mark.parametrize(("change", "weight_bits"), [(levels, 4), (offsets, 6)])
def test_other_static_quantizers(tmp_path: Path, change: Any, weight_bits: int) -> None:
    config = {"weight_bits": weight_bits, "act_bits": 8}
    network = wrapped(chain(*convs(nn.ReLU(), nn.Identity(), nn.ReLU())), "minmax8", **config)
    change(network)
    made = ptqsr.export(network, tmp_path / "q.onnx", results="float")
    assert all(check.psnr > 60 for check in made.checks)
    x = given(network, SIZES[1])
    assert worst(network, run(made.path, x), x) > 60
    # No result is rounded that is not in the network, and few levels of weights are exact.
    assert not made.quantized_results and (made.kernels_rounded, made.kernels) == (0, 24)
    count = 2 if change is levels else 0
    assert (len(made.integer), len(made.unfused)) == (count, 3 - count)


def test_what_follows_is_folded(tmp_path: Path) -> None:
    """Batch normalisation with gains of either sign and 0, factors, and what is always 0."""
    import onnx

    norm = nn.BatchNorm2d(8)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1, -1, 0, 2, -0.5, 1e-6, 1, 1]))
        norm.bias.copy_(torch.linspace(-1, 1, 8))
        norm.running_mean = torch.linspace(-0.1, 0.2, 8)
    module = chain(*convs(norm, Doubled()), nn.PixelShuffle(1), nn.ReLU())
    network = wrapped(module, "minmax8", weight_bits=6)
    made = ptqsr.export(network, tmp_path / "q.onnx")
    assert all(check.psnr > 40 for check in made.checks)
    assert made.integer == ("module.1", "module.3")
    kinds = {node.op_type for node in onnx.load(made.path).graph.node}
    assert not kinds & {"BatchNormalization", "Div"}


def test_the_picture_has_more_than_8_bits() -> None:
    """A last integer convolution gives five windows of 256 levels, which are summed up."""
    network, made = exported("edsr_bn")
    steps = constants(made.path)["tail.1.windows"].max((1, 2, 3))
    assert "tail.1" in made.integer and made.quantized_results[-1] == "tail.1"
    values = run(made.path, given(network, (2, 40, 40))) * 255  # less the mean, a sum of steps
    for channel, step in zip(values.unbind(1), steps, strict=True):
        assert 300 < len(np.unique(np.round(channel.numpy() / step * 8))) <= 5 * 255 + 1
