"""What the Plans of the zoo look like: fused where they should be, float where they must."""

from __future__ import annotations

import pytest
import torch

from ptqsr.deployment import describe, other_steps
from ptqsr.lowering import Convolve, Encode, Float, Statistics
from ptqsr.modules import SubsetCodes, UniformCodes

from .cases import by_layer, deployed, records

pytestmark = pytest.mark.usefixtures("one_thread")


def test_edsr_fuses_every_body_convolution() -> None:
    ours = deployed("edsr", "dfsq4")
    layers = by_layer(ours)
    assert list(layers) == [f"body.{i}.body.{j}" for i in (0, 1) for j in (0, 2)]
    for i in (0, 1):
        first, second = layers[f"body.{i}.body.0"], layers[f"body.{i}.body.2"]
        assert (first.activation, first.residual, first.absorbed) == ("relu", None, ("ReLU",))
        assert (second.activation, second.absorbed) == ("none", ("residual",))
        assert second.sources[0].tensor == first.name and not second.sources[0].is_codes
    assert layers["body.1.body.0"].residual is None
    assert layers["body.1.body.2"].residual == layers["body.0.body.2"].name
    # The head is float: its result is passed over once more. What the last gives nobody reads.
    assert len(records(ours, Statistics)) == 1 and not records(ours, Encode)
    assert [conv.statistics for conv in layers.values()] == [True, True, True, False]
    left = {str(r.node.target) for r in records(ours, Float)}
    assert left.isdisjoint({"body.0.body.1", "body.1.body.1"})


@pytest.mark.parametrize("method", ["dfsq4", "minmax8"])
def test_batch_norm_and_factors_are_folded(method: str) -> None:
    absorbed = {k: c.absorbed for k, c in by_layer(deployed("edsr_bn", method)).items()}
    assert absorbed["body.0.body.0"] == ("batch norm", "ReLU")
    assert absorbed["body.0.body.3"] == ("batch norm", "residual")
    assert by_layer(deployed("edsr_scaled", method))["body.1.body.2"].absorbed == (
        "factor 0.1",
        "residual",
    )
    layers = by_layer(deployed("srresnet", method))
    assert layers["residual.0.conv1"].absorbed == ("batch norm", "PReLU")
    assert layers["residual.0.conv2"].absorbed == ("batch norm", "residual")


def test_rdn_encodes_its_parts_once() -> None:
    ours = deployed("rdn", "dfsq4")
    layers = by_layer(ours)
    encoded = [record.tensor for record in records(ours, Encode)]
    # The block's input and the first layer's result; the second's is read by LFF alone.
    assert encoded == ["sfenet2", layers["RDBs.0.convs.0.conv.0"].name]
    assert [s.is_codes for s in layers["RDBs.0.LFF"].sources] == [True, True, False]
    assert layers["RDBs.0.LFF"].absorbed == ("residual",)
    assert layers["GFF.1"].absorbed == ("residual",)
    # No concatenation is made.
    assert not any(r.node.target is torch.cat for r in records(ours, Float))
    # Of what is static every layer has a grid of its own; of the parts, one is read twice alike.
    assert len(layers["RDBs.0.LFF"].conv.codes.points) == 16 + 2 * 8


def test_carn_ends_blocks_with_a_relu_after_the_addition() -> None:
    for variant in ("carn", "carn_m"):
        layers = list(deployed(variant, "dfsq4").plan.convolutions)
        assert len(layers) == 18
        last = [c for c in layers if c.layer.endswith("body.2")]
        if variant == "carn":
            assert all(c.absorbed == ("residual", "ReLU") for c in last)
        else:
            assert all(c.absorbed == ("ReLU",) for c in last)  # a 1x1 in float comes after it
            assert len({c.layer for c in layers}) == 6  # three times each
    assert "cat" in {r.name for r in records(deployed("carn", "dfsq4"), Float)}


def test_idn_and_imdn_read_slices() -> None:
    layers = by_layer(deployed("idn", "dfsq4"))
    assert layers["conv3_6"].absorbed == ("leaky ReLU 0.05", "residual")
    assert layers["conv3_3"].statistics and layers["conv3_2"].conv.groups == 4
    ours = deployed("imdn", "dfsq4")
    layers = by_layer(ours)
    assert all(layers[f"IMDB1.c{i}"].statistics for i in (1, 2, 3))
    # c4's is read by the attention, which is float.
    assert not layers["IMDB1.c4"].statistics
    assert len(records(ours, Statistics)) == 2


def test_static_codes_pass_between_convolutions() -> None:
    layers = by_layer(deployed("edsr", "minmax8"))
    for i in (0, 1):
        first, second = layers[f"body.{i}.body.0"], layers[f"body.{i}.body.2"]
        assert isinstance(first.out, UniformCodes) and second.sources[0].is_codes
        assert first.out.key() == second.conv.codes.key()
        assert second.out is None  # the next block's shortcut needs it in float
    assert [c.out is not None for c in by_layer(deployed("idn", "minmax4")).values()][:6] == [
        True, True, False, True, True, False,
    ]  # fmt: skip


def test_float16_between_integer_convolutions_alone() -> None:
    """EDSR's head and last convolution give and take float32; what RDN encodes once is float32."""
    half, single = torch.float16, torch.float32
    found = {c.layer: c.dtype for c in deployed("edsr", "dfsq4").plan.convolutions}
    last = list(found)[-1]
    assert found.pop(last) == single and set(found.values()) == {half}
    everywhere = deployed("edsr", "dfsq4", single).plan.convolutions
    assert {c.dtype for c in everywhere} == {single}
    plan = deployed("rdn", "dfsq4").plan
    encoded = {r.tensor for r in plan.records if isinstance(r, Encode)}
    dtypes = {c.name: c.dtype for c in plan.convolutions}
    assert encoded and {dtypes[name] for name in encoded & dtypes.keys()} == {single}
    assert half in dtypes.values()
    for between, dtypes in ((None, {single, torch.uint8}), (half, {half, single, torch.uint8})):
        convolutions = deployed("edsr", "minmax8", between).plan.convolutions
        assert {c.dtype for c in convolutions} == dtypes


def test_descriptions() -> None:
    rows = {row["layer"]: row for row in describe(deployed("idn", "dfsq4").plan)}
    assert rows["conv1"]["remark"] == "not quantized: PyTorch float32"
    assert (rows["conv1"]["how"], rows["conv1"]["act_bits"]) == ("float", 32)
    row = rows["conv3_2"]
    assert row["how"] == "int8 subset" and row["shape"] == "8x3x3x3, 4 groups"
    assert row["remark"] == "gives float16; 3 to 2 channels per group: 9 % of the lanes"
    assert row["fused"] == ["leaky ReLU 0.05"] and row["statistics"]
    assert rows["statistics of leaky_relu_1"]["how"] == "pass"
    rows = {row["layer"]: row for row in describe(deployed("rdn", "dfsq4").plan)}
    assert "reads 3 parts; reads codes" in rows["RDBs.0.LFF"]["remark"]
    assert rows["codes of sfenet2"]["remark"] == "encoded once, read by several layers"
    assert other_steps(deployed("edsr", "dfsq4").plan) > 0


def test_records_make_before_they_need() -> None:
    for variant in ("edsr", "rdn", "carn_m", "imdn"):
        for method in ("dfsq4", "minmax4"):
            plan = deployed(variant, method).plan
            there = set(plan.inputs)
            for record in plan.records:
                assert record.needs <= there, record
                assert not record.makes & there
                there |= record.makes
            assert plan.output in there and plan.reason is None
            for conv in plan.convolutions:
                assert isinstance(conv, Convolve)
                subset = isinstance(conv.conv.codes, SubsetCodes)
                assert all((s.normalised is not None) == subset for s in conv.sources)
