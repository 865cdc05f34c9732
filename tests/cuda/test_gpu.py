"""What only a GPU does: graphs, streams, several devices, its memory running out.

Their logic runs here too, with the emulation in the GPU's place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from ptqsr.ops.cuda import uniform_conv
from ptqsr.ops.cuda.kernel import KERNELS

from .cases import CASES, arguments, that_change
from .conftest import Emulated, OnGpu, same_bits
from .moving import Mover

Kernels = Emulated | OnGpu

every_operation = pytest.mark.parametrize("name", CASES)


def on_gpu(name: str) -> Callable[..., Any]:
    return getattr(torch.ops.ptqsr, name)


def write(name: str, values: Any, to: Any) -> None:
    """Write tensors' values where those of other arguments of an operation are."""
    pairs = [p for p in zip(tree_leaves(to), tree_leaves(values), strict=True)
             if isinstance(p[0], torch.Tensor)]  # fmt: skip
    for (a, b), changes in zip(pairs, that_change(name), strict=True):
        if changes:  # weights stay: they would be packed again
            a.copy_(b)


def check_other_values(
    name: str, there: list[Any], again: Callable[[], Any], eager: Callable[..., Any]
) -> None:
    """Compare what `again` makes of other values in `there` with the operation on these alone."""
    results = []
    for seed in (2, 3, 1):
        given = arguments(name, seed)
        write(name, given, there)
        results.append([t.clone() for t in tree_leaves(again())])
        device = tree_leaves(there)[0].device.type
        same_bits(results[-1], tree_leaves(eager(*Mover(device)(given))), f"{name}, seed {seed}")
    assert not torch.equal(results[0][0], results[1][0]), "other values give the same results"


def check_threads(name: str, operations: list[Callable[..., Any]], device: str) -> None:
    """Compare what threads that run at once get with what one gets alone."""
    expected = [operation(*Mover(device)(arguments(name, seed)))
                for seed, operation in enumerate(operations)]  # fmt: skip
    start, failures = threading.Barrier(len(operations)), []

    def run(seed: int) -> None:
        try:
            there = Mover(device)(arguments(name, seed))
            start.wait(60)
            for _ in range(10):
                same_bits(operations[seed](*there), expected[seed], f"{name} in a thread")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(len(operations))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_every_operation_has_a_case() -> None:
    assert set(CASES) == set(KERNELS)


@every_operation
def test_other_values(emulated: Emulated, name: str) -> None:
    operation = getattr(emulated, name)
    there = Mover("cpu")(arguments(name, 1))
    check_other_values(name, there, lambda: operation(*there), operation)


@every_operation
def test_threads(emulated: Emulated, name: str) -> None:
    check_threads(name, [getattr(emulated, name)] * 2, "cpu")


@pytest.mark.gpu
@every_operation
def test_graph(gpu: None, name: str) -> None:
    operation, there = on_gpu(name), Mover("cuda")(arguments(name, 1))
    operation(*there)  # packs weights
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = operation(*there)

    def replay() -> Any:
        graph.replay()
        return result

    check_other_values(name, there, replay, operation)


@pytest.mark.gpu
@every_operation
def test_a_side_stream(gpu: None, name: str) -> None:
    """The values come late on that stream: work on another would not find them."""
    operation, move = on_gpu(name), Mover("cuda")
    there, late = move(arguments(name, 1)), move(arguments(name, 2))
    expected = operation(*late)
    operation(*there)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)  # clock cycles
        write(name, late, there)
        result = operation(*there)
    side.synchronize()
    same_bits(result, expected, name)


@pytest.mark.gpu
@every_operation
def test_threads_with_their_own_streams(gpu: None, name: str) -> None:
    def on(stream: torch.cuda.Stream) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                result = on_gpu(name)(*given)
            stream.synchronize()
            return result

        return run

    check_threads(name, [on(torch.cuda.Stream()) for _ in range(2)], "cuda")


@pytest.mark.gpu
@every_operation
def test_a_second_device(gpu: None, name: str) -> None:
    """By its tensors, not by which device is current."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU here")
    given = arguments(name, 1)
    assert torch.cuda.current_device() == 0
    first, second = (on_gpu(name)(*Mover(f"cuda:{i}")(given)) for i in range(2))
    assert all(t.device == torch.device("cuda:1") for t in tree_leaves(second))
    assert torch.cuda.current_device() == 0
    same_bits([t.cpu() for t in tree_leaves(second)], [t.cpu() for t in tree_leaves(first)], name)


def test_weights_are_packed_once(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []
    pack = uniform_conv._pack

    def counted(*given: Any) -> Any:
        packed.append(1)
        return pack(*given)

    monkeypatch.setattr(uniform_conv, "_pack", counted)
    given = arguments("uniform_conv2d", 1)
    first = kernels.uniform_conv2d(*given)
    for seed in (2, 3):
        given[0] = arguments("uniform_conv2d", seed)[0]
        kernels.uniform_conv2d(*given)
    assert len(packed) == 1
    given[0], levels = arguments("uniform_conv2d", 1)[0], given[4]
    levels.neg_().clamp_(-128, 127)
    assert not torch.equal(kernels.uniform_conv2d(*given), first)
    assert len(packed) == 2
    given[4] = levels.clone()
    kernels.uniform_conv2d(*given)
    assert len(packed) == 3


@pytest.mark.gpu
def test_memory_that_runs_out(gpu: None) -> None:
    """It is PyTorch's own error, and the next call works."""
    codes = torch.ones((), dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        on_gpu("pack_codes")(codes.expand(1 << 21, 1 << 20), 4)
    assert on_gpu("pack_codes")(codes.expand(1, 2), 4).tolist() == [[0x11]]
