"""What benchmarks/patches.py times: networks that choose as it says."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_edsr

import ptqsr
from ptqsr.evaluation import recording_bits


@pytest.mark.parametrize("shares", [(1, 1, 1), (0, 0, 1), (1, 0, 0), (1, 0, 2)])
def test_mixes(shares: tuple[int, ...], one_thread: None) -> None:
    from benchmarks.patches_ours import CANDIDATES, alone, mixed, pair

    patches = torch.rand(6, 3, 12, 12) * torch.linspace(0.2, 1, 6).view(6, 1, 1, 1)
    teacher, student = pair(tiny_edsr(), patches)
    network = mixed(student, patches, shares)
    with recording_bits(network) as chosen:
        y = network(patches)
    wanted = [bits for bits, n in zip(CANDIDATES, shares, strict=True) for _ in range(n)]
    for bits in chosen.values():
        assert sorted(bits) == sorted(wanted * (6 // sum(shares)))
    if shares == (0, 0, 1):
        assert torch.equal(y, teacher(patches))
    deployed, layers = ptqsr.deploy(teacher)(patches), alone(teacher)(patches)
    torch.testing.assert_close(layers, deployed, rtol=0, atol=1e-5)


def test_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.patches import show

    def row(name: str, ratio: float) -> dict:
        return {"name": name, "median_ms": 1.0, "low_ms": 1.0, "high_ms": 1.0, "cpu_ms": 1.0,
                "ratio": ratio, "ratio_low": ratio, "ratio_high": ratio}  # fmt: skip

    def kept(isa: str, ratio: float) -> bool:
        rows = [row("8-bit teacher", 1.0), row("CADyQ, a third each", ratio)]
        return show(isa, {"network": rows, "features": rows, "mean bits": {rows[1]["name"]: 6.0}})

    assert kept("avx512_vnni", 1.08) and not kept("avx512_vnni", 1.081)
    assert kept("avx2", 0.99) and not kept("avx2", 1.0) and kept("portable", 9.0)
    assert "BROKEN" in capsys.readouterr().out
