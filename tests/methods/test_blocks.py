"""What is reconstructed at once, and where its inputs and outputs are kept."""

from __future__ import annotations

import io
import os
import tempfile
from typing import IO

import pytest
import torch
from torch import nn
from upscaling.networks import VARIANTS, lively

from ptqsr import models
from ptqsr.errors import PtqsrError
from ptqsr.methods.cache import Cache
from ptqsr.methods.samples import Pictures, divide, turned
from ptqsr.methods.units import calls, passing, units
from ptqsr.modules import quantizable


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_is_in_one_unit_that_keeps_to_itself(variant: str, edges: bool) -> None:
    network = lively(variant, 2)
    layers = quantizable(network, edges=edges)
    found = units(network, layers)
    assert sorted(name for names in found.values() for name in names) == sorted(layers)
    for unit, names in found.items():
        module = network.get_submodule(unit)
        inside = {id(m) for m in module.modules()}
        assert all(id(network.get_submodule(name)) in inside for name in names)
    if variant in ("edsr", "imdn", "carn", "carn_m", "srresnet", "rdn"):
        assert max(len(names) for names in found.values()) > 1
    # One tensor in and one out: the module alone makes of its input what it makes in the network.
    x = torch.rand(1, 1 if network.colours == "y" else 3, 8, 9)
    with torch.no_grad():
        times = calls(network, found, x)
        assert times.keys() == found.keys()
        for unit in found:
            seen = passing(network, unit, times[unit], x)
            assert len(seen) == times[unit]
            for given, made in seen:
                assert torch.equal(network.get_submodule(unit)(given), made)


def test_shared_blocks_run_several_times() -> None:
    network = lively("carn_m", 2)
    with torch.no_grad():
        assert calls(network, ["b1.b1", "b2.b1"], torch.rand(1, 3, 6, 6)) == {
            "b1.b1": 3,
            "b2.b1": 3,
        }


def test_networks_of_others_go_layer_by_layer() -> None:
    net = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))
    model = models.wrap(net, scale=1)
    assert units(model, quantizable(model)) == {
        "module.1": ("module.1",),
        "module.2": ("module.2",),
    }


@pytest.mark.parametrize("limit", [0, 100, 1 << 20])
def test_what_does_not_fit_in_memory_comes_back_from_disk(limit: int) -> None:
    tensors = [torch.rand(shape) for shape in ((2, 3), (1, 4, 5), (7,), (1, 2, 3, 4))]
    with Cache(limit) as cache:
        expected = [t.clone() for t in tensors]
        assert [cache.append(t) for t in tensors] == [0, 1, 2, 3]
        for tensor in tensors:
            tensor.zero_()  # it keeps copies
        for number in (2, 0, 3, 1):
            assert torch.equal(cache[number], expected[number])
        assert cache.on_disk == {0: 4, 100: 2, 1 << 20: 0}[limit]
        kept = sum(t.nbytes for t in cache._kept if isinstance(t, torch.Tensor))
        assert kept <= limit and len(cache) == 4
        file = cache._file
    assert file is None or file.closed


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, in one line: nothing is left to write when the file is closed."""

    def full(*, buffering: int = -1, **_: object) -> IO[bytes]:
        return open("/dev/full", "w+b", buffering=buffering)

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with (
        pytest.raises(PtqsrError, match=r"No space left on device.*TMPDIR"),
        Cache(0) as cache,
    ):
        cache.append(torch.rand(3))


def test_what_the_disk_takes_in_pieces_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.FileIO):
        def write(self, data: memoryview) -> int:
            return super().write(data[:7])

    whole = tempfile.TemporaryFile

    def slow(**options: object) -> Slow:
        with whole(**options) as file:
            return Slow(os.dup(file.fileno()), "w+b")

    monkeypatch.setattr(tempfile, "TemporaryFile", slow)
    tensors = [torch.rand(3, 5), torch.rand(2)]
    with Cache(0) as cache:
        for tensor in tensors:
            cache.append(tensor)
        assert all(torch.equal(cache[n], tensor) for n, tensor in enumerate(tensors))


@pytest.mark.parametrize("count, expected", [(2, 1), (5, 1), (8, 2), (16, 4)])
def test_a_quarter_is_held_out(count: int, expected: int) -> None:
    pictures = torch.rand(count, 3, 2, 2)
    learned, apart = divide([pictures], seed=3)
    numbers = [[float(x[0, 0, 0, 0]) for x in some] for some in (learned, apart)]
    assert len(numbers[1]) == expected
    assert sorted(numbers[0] + numbers[1]) == sorted(pictures[:, 0, 0, 0].tolist())
    again = divide(list(pictures.split(1)), seed=3)
    assert numbers == [[float(x[0, 0, 0, 0]) for x in some] for some in again]
    assert all(
        torch.equal(a, b) for a, b in zip(Pictures([pictures]), pictures[:, None], strict=True)
    )


def test_one_picture_is_too_few() -> None:
    with pytest.raises(PtqsrError, match="one calibration picture is too few"):
        divide([torch.rand(1, 3, 2, 2)], seed=0)


def test_turned_pictures_are_four() -> None:
    x = torch.rand(1, 3, 4, 5)
    found = turned(x)
    assert torch.equal(found[0], x) and len({tuple(t.flatten().tolist()) for t in found}) == 4
    assert [tuple(t.shape[2:]) for t in found] == [(4, 5), (4, 5), (5, 4), (5, 4)]
