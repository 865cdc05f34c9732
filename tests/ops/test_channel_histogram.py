"""channel_histogram: the native counts are those of the reference, bin for bin."""

from __future__ import annotations

import pytest
import torch

from ptqsr import native, ops

SHAPES = [
    (1, 1, 1, 1),
    (3, 5, 1, 7),
    (2, 17, 5, 7),
    (1, 3, 16, 32),
    (1, 2, 33, 31),
    (2, 64, 50, 41),
]


def sample(shape: tuple[int, ...], d: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, mean and ratio: channels of many magnitudes, half after a ReLU, the first constant."""
    torch.manual_seed(sum(shape))
    x = torch.randn(shape) * torch.logspace(-3, 3, shape[1]).view(1, -1, 1, 1) + 0.3
    nonnegative = torch.arange(shape[1]) % 2 == 1
    x = torch.where(nonnegative.view(1, -1, 1, 1), x.relu(), x)
    x[:, 0] = -0.7
    mean, scale = ops.channel_statistics(x, nonnegative)
    return x, mean, torch.where(scale > 0, d / scale, 0.0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("d, per_step", [(104, 20), (32, 20), (127, 20), (1024, 2), (8192, 2)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_reference(
    shape: tuple[int, ...], d: int, per_step: int, layout: torch.memory_format
) -> None:
    x, mean, ratio = sample(shape, d)
    expected = ops.reference.histogram.channel_histogram(x, mean, ratio, d, per_step)
    counted = ops.channel_histogram(x.contiguous(memory_format=layout), mean, ratio, d, per_step)
    wrong = (counted != expected).nonzero()
    assert len(wrong) == 0, f"first of {len(wrong)} differences at {wrong[0].tolist()}"
    values = shape[2] * shape[3] * (ratio > 0).sum(0)
    assert torch.equal(counted.sum(1), values)


def test_values_on_the_edges_of_bins_and_outside() -> None:
    edges = torch.arange(-105 * 20, 105 * 20 + 1) / 20
    x = torch.stack((edges, edges.nextafter(edges + 1), edges.nextafter(edges - 1))).view(
        1, 1, 3, -1
    )
    args = torch.zeros(1, 1), torch.ones(1, 1), 104, 20
    counted = ops.channel_histogram(x, *args)
    assert torch.equal(counted, ops.reference.histogram.channel_histogram(x, *args))
    assert counted.sum() == x.numel()


def test_same_on_any_number_of_threads() -> None:
    x, mean, ratio = sample((2, 19, 70, 81), 104)
    threads, results = torch.get_num_threads(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        results.append(ops.channel_histogram(x, mean, ratio, 104, 20))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_empty_and_sliced_tensors() -> None:
    for shape in ((0, 4, 3, 3), (2, 4, 0, 3)):
        nothing = torch.zeros(shape[:2])
        counted = ops.channel_histogram(torch.empty(shape), nothing, nothing + 1, 104, 20)
        assert counted.shape == (4, 4160) and not counted.any()
    x, mean, ratio = sample((2, 6, 9, 8), 104)
    part = ops.channel_histogram(x[:, 2:5], mean[:, 2:5], ratio[:, 2:5], 104, 20)
    assert torch.equal(part, ops.channel_histogram(x, mean, ratio, 104, 20)[2:5])


def test_opcheck() -> None:
    torch.library.opcheck(
        torch.ops.ptqsr.channel_histogram.default, (*sample((2, 5, 6, 7), 104), 104, 20)
    )


def test_without_native_code_the_reference_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    args = (*sample((1, 4, 9, 8), 104), 104, 20)
    here = ops.channel_histogram(*args)
    monkeypatch.setattr(native, "load", lambda: None)
    assert torch.equal(ops.channel_histogram(*args), here)


def test_native_kernel_is_registered() -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key("ptqsr::channel_histogram", "CPU")


def test_bad_input() -> None:
    x, ones = torch.ones(1, 2, 3, 3), torch.ones(1, 2)
    for args, words in (
        ((x[0], ones, ones, 104, 20), "N, C, H, W"),
        ((x, ones[:, :1], ones, 104, 20), r"mean has shape \(1, 1\), must have \(1, 2\)"),
        ((x, ones, ones, 0, 20), "at least 1"),
        ((x, ones, ones, 1 << 15, 2), "at most 65536 bins"),
    ):
        with pytest.raises(ValueError, match=words):
            ops.channel_histogram(*args)
    with pytest.raises(TypeError, match=r"must be torch\.float32"):
        ops.channel_histogram(x.double(), ones, ones, 104, 20)
    with pytest.raises(ValueError, match="move them to one device"):
        ops.channel_histogram(x, ones.to("meta"), ones, 104, 20)
