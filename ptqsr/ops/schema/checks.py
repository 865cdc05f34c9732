"""What the operations ask of their arguments, in words that name the shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ptqsr.config import MAX_BITS, MIN_BITS

Shape = tuple[int, int, int, int]
# Stride, padding, dilation, groups.
Geometry = tuple[list[int], list[int], list[int], int]

# Of pictures and of weights, whatever the sizes.
NCHW = ("N", "C", "H", "W")
OIHW = ("O", "C/g", "K", "K")
# What activations come in; they are computed with in float32.
NUMBERS = (torch.float32, torch.float16, torch.bfloat16)
# Up to here a point is an int8.
MAX_INT8_DENOMINATOR = 127
ACTIVATIONS = ("none", "relu", "leaky")
LAST_ACTIVATIONS = ("none", "relu")
# Sums of more products than this, of operands within +-255, may leave int32.
MAX_TAPS = (2**31 - 1) // (255 * 255)
# Values of a padded picture: no machine has more, and addresses do not overflow.
MAX_PADDED = 1 << 40


def expect(
    op: str,
    what: str,
    tensor: torch.Tensor,
    dtypes: torch.dtype | tuple[torch.dtype, ...],
    shape: Sequence[int | str],
) -> None:
    """Raise TypeError for another dtype, ValueError for another shape; a name is any size."""
    dtypes = dtypes if isinstance(dtypes, tuple) else (dtypes,)
    if tensor.dtype not in dtypes:
        raise TypeError(f"{op}: {what} is {tensor.dtype}, must be {' or '.join(map(str, dtypes))}")
    found = tuple(tensor.shape)
    fits = len(found) == len(shape) and all(
        isinstance(size, str) or size == given for size, given in zip(shape, found, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{op}: {what} has shape {found}, must have ({wanted})")


def expect_within(op: str, what: str, value: int, lowest: int, highest: int) -> None:
    """Raise ValueError for a number outside of its range."""
    if not lowest <= value <= highest:
        raise ValueError(f"{op}: {what} is {value}, must be from {lowest} to {highest}")


def expect_bits(op: str, bits: int, what: str = "bits") -> None:
    """Raise ValueError for another width than codes have."""
    expect_within(op, what, bits, MIN_BITS, MAX_BITS)


def expect_points(
    op: str, points: torch.Tensor, channels: int, denominator: int, largest: int
) -> None:
    """Raise for what are no points of a universal set, int32 [C, L], in units of 1/denominator."""
    expect(op, "points", points, torch.int32, (channels, "L"))
    if points.shape[1] < 1:
        raise ValueError(f"{op}: points {tuple(points.shape)} has no points")
    expect_within(op, "denominator", denominator, 1, largest)


def expect_one_device(op: str, **tensors: torch.Tensor | None) -> None:
    """Raise ValueError where tensors are on several devices."""
    devices = {name: tensor.device for name, tensor in tensors.items() if tensor is not None}
    if len(set(devices.values())) > 1:
        where = ", ".join(f"{name} is on {device}" for name, device in devices.items())
        raise ValueError(f"{op}: {where}; move them to one device")


def conv_shape(
    op: str,
    x: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Shape:
    """Return the shape of a convolution's result; raise ValueError where there is none."""
    if len(x) != 4 or len(weight) != 4:
        raise ValueError(
            f"{op}: x {tuple(x)} must be [N, C, H, W] and the weight {tuple(weight)} [O, C/g, K, K]"
        )
    if groups < 1 or min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ValueError(
            f"{op}: stride {list(stride)}, padding {list(padding)}, dilation {list(dilation)}, "
            f"groups {groups} make no convolution"
        )
    if weight[0] % groups or x[1] != weight[1] * groups:
        raise ValueError(
            f"{op}: x {tuple(x)} has {x[1]} channels, the weight {tuple(weight)} takes "
            f"{weight[1] * groups} in {groups} groups"
        )
    if min(x[2:]) < 1:
        raise ValueError(f"{op}: x {tuple(x)} has no pixels")
    if min(weight[1:]) < 1 or weight[1] * weight[2] * weight[3] > MAX_TAPS:
        raise ValueError(f"{op}: a weight {tuple(weight)} has no taps, or more than {MAX_TAPS}")
    padded = [x[2 + i] + 2 * padding[i] for i in (0, 1)]
    if x[1] * padded[0] * padded[1] > MAX_PADDED:
        raise ValueError(f"{op}: x {tuple(x)} with padding {list(padding)} is too large")
    size = [
        (x[2 + i] + 2 * padding[i] - dilation[i] * (weight[2 + i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    if min(size) < 1:
        raise ValueError(
            f"{op}: x {tuple(x)} with padding {list(padding)} is smaller than the weight "
            f"{tuple(weight)} with dilation {list(dilation)}"
        )
    return x[0], weight[0], size[0], size[1]


def concatenated(
    op: str, x: Sequence[torch.Tensor], dtypes: tuple[torch.dtype, ...]
) -> tuple[int, int, int, int]:
    """Return the shape of the concatenation of parts along channels, each of one of the dtypes."""
    if not x:
        raise ValueError(f"{op}: x has no parts")
    first = x[0].shape
    for part in x:
        same = len(part.shape) == len(first) == 4 and part.shape[2:] == first[2:]
        if not same or part.shape[0] != first[0]:
            shapes = ", ".join(str(tuple(part.shape)) for part in x)
            raise ValueError(f"{op}: the parts of x have shapes {shapes}; all must be [N, *, H, W]")
        expect(op, "a part of x", part, dtypes, NCHW)
    return first[0], sum(part.shape[1] for part in x), first[2], first[3]


def shuffled(op: str, shape: Shape, shuffle: int) -> Shape:
    """Return the shape after a pixel shuffle by `shuffle`."""
    n, o, h, w = shape
    if shuffle < 1 or o % shuffle**2:
        raise ValueError(f"{op}: {o} channels cannot be shuffled by {shuffle}")
    return n, o // shuffle**2, h * shuffle, w * shuffle


def expect_epilogue(
    op: str,
    shape: Shape,
    bias: torch.Tensor | None,
    activation: str,
    slope: torch.Tensor | None,
    residual: torch.Tensor | None,
    residual_dtypes: tuple[torch.dtype, ...],
    last_activation: str,
    shuffle: int,
) -> None:
    """Raise ValueError or TypeError for what cannot follow a convolution's sums of `shape`."""
    if activation not in ACTIVATIONS or last_activation not in LAST_ACTIVATIONS:
        raise ValueError(
            f"{op}: activation {activation!r} must be one of {ACTIVATIONS} and the last "
            f"{last_activation!r} one of {LAST_ACTIVATIONS}"
        )
    if (slope is not None) != (activation == "leaky"):
        raise ValueError(f"{op}: activation 'leaky' and a slope belong together")
    if bias is not None:
        expect(op, "bias", bias, torch.float32, (shape[1],))
    if slope is not None:
        expect(op, "slope", slope, torch.float32, ("S",))
        if len(slope) not in (1, shape[1]):
            raise ValueError(
                f"{op}: slope has shape {tuple(slope.shape)}, must have (1) or ({shape[1]})"
            )
    if residual is not None:
        if shuffle != 1:
            raise ValueError(f"{op}: a residual and a shuffle by {shuffle} exclude each other")
        expect(op, "residual", residual, residual_dtypes, shape)


def expect_out(op: str, dtype: torch.dtype, dtypes: tuple[torch.dtype, ...]) -> None:
    """Raise TypeError where a result cannot be of a dtype."""
    if dtype not in dtypes:
        raise TypeError(f"{op}: out_dtype is {dtype}, must be {' or '.join(map(str, dtypes))}")


def named(x: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the parts of x by what messages call them."""
    return {f"x[{i}]": part for i, part in enumerate(x)}


def empty(x: torch.Tensor, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    """Return the place for a result, in channels_last, on x's device."""
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
