"""Quantizers in standard operations, and programs of torch.export."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from lowering.cases import floating, psnr

import ptqsr
from ptqsr import Config, PtqsrError, models
from ptqsr.exporting.layers import PlainFit
from ptqsr.exporting.standard import PlainSubset
from ptqsr.models.fitting import Fit
from ptqsr.modules import place
from ptqsr.points import UniversalSet
from ptqsr.quantizers import SelectedQuantizer, SubsetQuantizer, UniformQuantizer

from .cases import SIZES, calibrated, given, small, worst

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["dfsq-107", "int8", "sq-2word", "dfsq-code"])
def test_the_table_is_the_quantizer(name: str) -> None:
    """Bit for bit where statistics are: also for ties, zeros, and channels that are constant."""
    universal_set = UniversalSet.preset(name)
    d, channels = universal_set.denominator, 6
    bits = 3
    generator = torch.Generator().manual_seed(0)
    values = torch.from_numpy(universal_set.integers).to(torch.int32)
    points = torch.stack(
        [
            values[torch.randperm(len(values), generator=generator)[: 1 << bits]].sort().values
            for _ in range(channels)
        ]
    )
    nonnegative = torch.tensor([False, True, False, True, False, True])
    quantizer = SubsetQuantizer(points, nonnegative, universal_set=universal_set, bits=bits)
    # Whole and half steps of the grid, whose mean is 0 and whose largest magnitude is D.
    steps = torch.arange(-2 * d, 2 * d + 1) / 2
    x = steps.repeat(2, channels, 1, 1)
    x[1, 2:] = torch.randn(4, 1, len(steps), generator=generator)
    x[1, :2] = torch.tensor([0.25, 0.0]).view(2, 1, 1)
    x[:, nonnegative] = x[:, nonnegative].abs()
    plain = PlainSubset([quantizer], onnx=False)(x)
    assert torch.equal(plain[0], quantizer(x)[0]) and torch.equal(plain[1, :2], x[1, :2])
    assert psnr(plain, quantizer(x)) > 60 - 20 * torch.log10(torch.tensor(d))


@pytest.mark.parametrize(("minimum", "multiple"), [(0, 4), (16, 8), (16, 1), (0, 1)])
def test_padding_by_index(minimum: int, multiple: int) -> None:
    fit = Fit(minimum, multiple)
    plain = PlainFit(fit)
    for height, width in ((1, 1), (3, 7), (8, 9), (33, 16)):
        x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        assert torch.equal(plain(x), fit(x)), (height, width)
        assert torch.equal(plain.cut(plain(x), height, width), x)


@pytest.mark.parametrize("method", ["minmax", "dfsq"])
def test_programs(tmp_path: Path, method: str) -> None:
    """They run without ptqsr's operations, at any size; static ones compute the same bits."""
    network = small(method, bits=4)
    made = ptqsr.export(network, tmp_path / "q.pt2", provenance={"photographs": 2})
    assert made.format == "pt2" and made.bytes == (tmp_path / "q.pt2").stat().st_size
    extra = {"ptqsr.json": ""}
    program = torch.export.load(tmp_path / "q.pt2", extra_files=extra)
    said = json.loads(extra["ptqsr.json"])
    assert (said["method"], json.loads(said["provenance"])) == (method, {"photographs": 2})
    assert "ptqsr" not in program.graph_module.code
    kinds = [t.dtype for t in program.state_dict.values() if t.ndim == 4]
    assert kinds.count(torch.int8) == kinds.count(torch.float32) == 2  # quantized, and not
    for size in (*SIZES, (1, 1, 1)):
        x = given(network, size)
        with torch.no_grad():
            y = program.module()(x)
        assert worst(network, y, x) > (150 if method == "minmax" else 50), size


def test_quantizers_in_other_places(tmp_path: Path) -> None:
    """As PAMS has them: of a block's input, and of what its last layer gives."""
    network = copy.deepcopy(small("minmax", bits=6))
    for name, where in (("module.1", "input"), ("module.1.body.2", "output")):
        place(network.get_submodule(name), where, UniformQuantizer.from_range(-0.5, 0.5, 5))
    made = ptqsr.export(network, tmp_path / "q.pt2")
    assert all(check.max_abs == 0 for check in made.checks)


def test_what_is_refused(tmp_path: Path, tiny: models.SRNetwork) -> None:
    quantized = calibrated("edsr", Config(method="minmax", bits=8))
    target = tmp_path / "q.pt2"
    for network, reason in (
        (ptqsr.deploy(quantized), "deployed; export the calibrated one"),
        (models.PatchWise(quantized), "by patches"),
        (choosing(), "choose their bits anew"),
    ):
        with pytest.raises(PtqsrError, match=reason):
            ptqsr.export(network, target)
    with pytest.raises(PtqsrError, match=r"q.bin: ends in neither \.onnx nor \.pt2"):
        ptqsr.export(tiny, tmp_path / "q.bin")
    with pytest.raises(PtqsrError, match="format 'xml'"):
        ptqsr.export(tiny, target, format="xml")
    with pytest.raises(PtqsrError, match="results 'int4'"):
        ptqsr.export(tiny, target, results="int4")
    with pytest.raises(PtqsrError, match="no folder"):
        ptqsr.export(tiny, tmp_path / "none" / "q.pt2")
    assert list(tmp_path.iterdir()) == []


def choosing() -> models.SRNetwork:
    """A network one of whose layers chooses its bits."""
    network = copy.deepcopy(calibrated("edsr", Config(method="minmax", bits=8)))
    quantizers = [UniformQuantizer.from_range(-1.0, 1.0, bits) for bits in (4, 8)]
    chooser = SelectedQuantizer(quantizers, torch.zeros(2, 18), torch.zeros(2), by="both")
    network.get_submodule("body.0.body.0").quantizer = chooser
    return network


def test_a_difference_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized = calibrated("edsr", Config(method="minmax", bits=8))
    target = tmp_path / "q.pt2"
    target.write_text("as it was")
    wrong = floating("edsr_bn")
    monkeypatch.setattr("ptqsr.exporting.run.portable", lambda network, onnx: wrong)
    with pytest.raises(PtqsrError, match=r"at 40x56 the exported network differs by .* dB"):
        ptqsr.export(quantized, target)
    assert target.read_text() == "as it was" and len(list(tmp_path.iterdir())) == 1
    ptqsr.export(quantized, target, tolerance=0)
    assert target.stat().st_size > 1000
