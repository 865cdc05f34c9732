"""What of the GPU's benchmark needs no GPU: rows, verdicts, checks of results, what is compiled."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from ptqsr import native, ops

# Behind what is installed: the scripts are no part of the package.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.gpu import body, cases, ceiling, checks, cutlass, goals, table
from benchmarks.gpu.build import KERNELS, BuildError, compiled
from benchmarks.gpu.table import Measured

COPY = Measured("ceiling copy", (1e-3, 2e-3, 4e-3), 2e9, "copy", is_ceiling=True)


def row(name: str, shape: str = "any", of: float | None = None, **peers: float) -> table.Row:
    return table.Row(name, shape, 1.0, 0.9, 1.1, 5.0, "GB/s", "copy", of, peers)


def conv(bits: int, of: float | None = None, **peers: float) -> table.Row:
    names = {"cutlass8": "CUTLASS int8", "cutlass4": "CUTLASS int4", "cudnn": "cuDNN float16",
             "w8a8": "uniform_conv2d W8A8"}  # fmt: skip
    made = {names[name]: ratio for name, ratio in peers.items()}
    return row(f"uniform_conv2d W{bits}A{bits}", "3x3 64->64 1x64x9x9", of, **made)


def test_rows_compare_within_rounds() -> None:
    """The clock halves and halves again: speeds drift, ratios stay."""
    ours = Measured("ours", (2e-3, 4e-3, 8e-3), 3e9, "copy", ("peer", "not there"))
    peer = Measured("peer", (3e-3, 6e-3, 12e-3), 3e9, "copy")
    found = table.rows("1x1", [ours, peer, COPY])
    assert [r.name for r in found] == ["ours", "peer"]
    assert found[0].rate == pytest.approx(750) and found[0].unit == "GB/s"
    assert found[0].of_ceiling == pytest.approx(0.75)
    assert found[0].times_as_fast == {"peer": pytest.approx(1.5)}
    assert found[0].low_us < found[0].us < found[0].high_us
    assert found[0].us == pytest.approx(4000)
    assert found[1].times_as_fast == {}


def test_products_count_in_operations() -> None:
    found = table.rows("1x1", [Measured("gemm_s8", (1e-3, 1e-3), 2e9, "s8"), COPY])[0]
    assert (found.rate, found.unit, found.of_ceiling) == (pytest.approx(2), "TOP/s", None)
    assert "2.0 TOP/s" in table.line(found)


def test_ceilings_are_the_best_of_all_groups() -> None:
    slower = Measured("ceiling copy", (4e-3, 4e-3), 2e9, "copy", is_ceiling=True)
    assert table.ceilings([[COPY], [slower]]) == {
        "copy": {"best": pytest.approx(1000), "lowest": pytest.approx(500), "unit": "GB/s"}
    }


@pytest.mark.parametrize(
    "of, reached", [(0.85, True), (0.8499, False), (None, None)], ids=["at it", "below", "without"]
)
def test_verdicts(of: float | None, reached: bool | None) -> None:
    found = goals.verdicts([row("channel_stats", of=of)], 75)
    mine = [v for v in found if v.name == "channel_stats"]
    assert [v.reached for v in mine] == [reached]
    assert mine[0].text.startswith({True: "reached", False: "MISSED", None: "not"}[reached])


def test_int4_is_held_against_int8_by_processor() -> None:
    rows = [conv(4, w8a8=0.97, cutlass4=2.5)]

    def of(architecture: int) -> list[bool | None]:
        return [
            v.reached for v in goals.verdicts(rows, architecture) if v.name == "uniform_conv2d W4A4"
        ]

    assert of(75) == of(89) == [False, True]
    assert of(90) == [True]


def test_a_peer_that_is_not_there_decides_nothing() -> None:
    found = goals.verdicts([conv(8, of=0.7, cudnn=2.0)], 80)
    by_goal = {v.goal: v.reached for v in found if v.name == "uniform_conv2d W8A8"}
    assert list(by_goal.values()) == [True, None, True]
    assert by_goal[">= 1.30 x CUTLASS int8"] is None


def test_report_has_every_row_and_goal() -> None:
    rows = [conv(8, of=0.5, cutlass8=1.4), row("torch copy_")]
    found = goals.verdicts(rows, 75)
    report = goals.report(rows, found)
    assert sum(report.count(line) for line in {table.line(r) for r in rows}) == len(rows)
    text = "\n".join(report)
    assert "MISSED: 50.0 %, >= 60 % of the ceiling" in text
    assert "reached: 1.40 x, >= 1.30 x CUTLASS int8" in text
    assert "gemm_s8, 4096 x 4096 x 4096: not measured: >= 75 % of the ceiling" in text
    assert report[-1] == "goals: 1 reached, 1 missed, 15 not measured"


def test_goals_speak_of_what_is_measured() -> None:
    x = cases.activation((1, 4, 3, 3), torch.float32)
    names = {*cases.elementwise(x), *cases.products(*cases.matrices(2, 2, 32))}
    names |= {"uniform_conv2d W8A8", "uniform_conv2d W4A4", body.STATIC, body.DFSQ}
    assert {goal.name for goal in goals.GOALS} <= names
    assert set(cases.MOVED) == {*cases.elementwise(x), "torch copy_"}


def test_operations_of_the_body() -> None:
    assert body.work((1, 64, 180, 320)) == pytest.approx(135.9e9, rel=1e-3)


def test_results_are_compared_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.differences("cpu") == []
    right = ops.gemm_s8

    def wrong(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sums = right(a, b)
        if native.load() is not None:  # not as the reference
            sums[1, 2] += 1
        return sums

    monkeypatch.setattr(ops, "gemm_s8", wrong)
    assert checks.differences("cpu") == ["gemm_s8: 1 of 10500 results differ"]


def test_cutlass_reads_what_is_laid_out() -> None:
    codes = torch.randint(-8, 8, (2, 32, 3, 5))
    whole = cutlass.laid_out(codes, 8)
    assert torch.equal(whole.long(), codes.permute(0, 2, 3, 1))
    packed = ops.pack_codes((whole & 15).to(torch.uint8), 4)
    assert torch.equal(cutlass.laid_out(codes, 4), packed.view(torch.int8))


def test_what_processors_multiply() -> None:
    assert (
        {form.bits for form in cutlass.forms(75)} == {8, 4} == {f.bits for f in cutlass.forms(89)}
    )
    assert {form.bits for form in cutlass.forms(90)} == {8}
    assert "s4" in ceiling.kinds(89) and "s4" not in ceiling.kinds(90)
    assert "ARCHITECTURE=80" in cutlass.forms(90)[0].defines(90)


def test_without_compiler_or_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(BuildError, match="no nvcc to compile ceiling"):
        compiled([KERNELS / "ceiling.cu"], tmp_path / "x.so", 75, [])
    assert cutlass.build(tmp_path, None, 75) == []
    assert "pip install --no-deps nvidia-cutlass" in capsys.readouterr().out
    assert cutlass.build(tmp_path, tmp_path, 75) == []
    assert "CUTLASS int8 128x64x64, 2 stages: no nvcc" in capsys.readouterr().out
