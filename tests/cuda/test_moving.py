"""Tensors keep their place in memory where GPU tests move them; shown by moving within the host."""

from __future__ import annotations

import pytest
import torch

from .conftest import Elsewhere, Emulated
from .moving import Mover

BASE = torch.arange(60, dtype=torch.float32)


@pytest.mark.parametrize(
    "x",
    [
        BASE[1:],
        BASE[3:].half()[1:],
        BASE.view(3, 4, 5).permute(2, 0, 1)[1:, ::2],
        BASE[5:9].view(1, 4, 1).expand(3, 4, 5),
        BASE.view(1, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        BASE.byte()[3:3],
        torch.tensor(3.5),
        torch.zeros(0, 3, 4),
    ],
    ids=lambda x: f"{x.dtype}-{tuple(x.shape)}-{x.storage_offset()}",
)
def test_layout_stays(x: torch.Tensor) -> None:
    there = Mover("cpu")(x)
    assert torch.equal(there, x) and there.dtype == x.dtype
    assert there.stride() == x.stride() and there.storage_offset() == x.storage_offset()
    if x.numel():
        assert there.data_ptr() != x.data_ptr() and there.data_ptr() % 64 == x.data_ptr() % 64
    assert Mover("meta")(x).stride() == x.stride()


def test_the_same_tensor_moves_to_the_same_tensor() -> None:
    move, x = Mover("cpu"), BASE.clone()
    given = ([x, x[2:]], 3, None, x)
    (first, part), number, nothing, again = move(given)
    assert (number, nothing) == (3, None) and again is first and move(x) is first
    assert part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
    assert move(BASE.clone()) is not first


def test_changes_in_place_are_written_in_place() -> None:
    move, x = Mover("cpu"), BASE.clone()
    part = x[7:]
    there, part_there = move([x, part])
    address, version = there.data_ptr(), there._version
    x.neg_()
    assert move(x) is there and there.data_ptr() == address and there._version > version
    assert torch.equal(there, x) and torch.equal(part_there, part)
    version = there._version
    assert move(part) is part_there and there._version == version
    x.resize_(30)
    assert torch.equal(move(x), x)


def test_tensors_of_inference_mode() -> None:
    move = Mover("cpu")
    with torch.inference_mode():
        x, normal = BASE.clone(), BASE
        assert move(x).is_inference() and not move(normal).is_inference()
        x.neg_()
        assert torch.equal(move(x), x)


def test_an_operation_that_changes_what_it_is_given_is_noticed() -> None:
    def change(x: torch.Tensor) -> torch.Tensor:
        return x.fill_(1).clone()

    with pytest.raises(AssertionError, match="changed what it was given"):
        Elsewhere("cpu", lambda name: change).anything(BASE.clone())


def test_operations_elsewhere_are_those_here(emulated: Emulated) -> None:
    elsewhere = Elsewhere("cpu", lambda name: getattr(emulated, name))
    codes = torch.arange(70, dtype=torch.uint8)[3:].view(1, 67) % 8
    assert torch.equal(elsewhere.pack_codes(codes, 3), emulated.pack_codes(codes, 3))
