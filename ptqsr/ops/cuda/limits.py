"""What the CUDA kernels do not take, and what happens instead: for `ptqsr info` and the pages."""

from __future__ import annotations

from dataclasses import dataclass

EVERY = "every operation"
REFERENCE = "its PyTorch reference runs, much slower"
NO_ERROR = "wrong results, no error: looking would be waiting (the CPU raises)"
# On GPUs these are always their references.
WITHOUT_KERNEL = ("channel_histogram",)
CONVOLUTIONS = ("subset_conv2d", "uniform_conv2d")


@dataclass(frozen=True)
class Limit:
    """`operations`: names in `ptqsr.ops`, or EVERY; what of them is not taken; what is done."""

    operations: tuple[str, ...]
    not_taken: str
    instead: str


LIMITS = (
    Limit(
        (EVERY,),
        "tensors of more than 2^31 - 1 elements",
        "ValueError with the shapes: run fewer pictures at a time, or tiles",
    ),
    Limit((EVERY,), "strides of another layout than contiguous or channels_last", "a copy first"),
    Limit(WITHOUT_KERNEL, "anything: there is no kernel yet", REFERENCE),
    Limit(
        ("uniform_conv2d_moments",),
        "moments in the convolution's epilogue",
        "PyTorch's operations find them, in passes of their own",
    ),
    Limit(
        ("subset_encode", "subset_encode_packed", "subset_fake_quant"),
        "more points than shared memory holds, some 1,000 in a channel",
        "PyTorch's operations find them, slower, with a warning",
    ),
    Limit(
        ("subset_encode", "subset_encode_packed", "subset_fake_quant"),
        "points that do not ascend",
        NO_ERROR,
    ),
    Limit(("subset_decode_packed",), "an index beyond the points", "it counts as the last point"),
    Limit(("pack_codes",), "a code of more bits", "its low bits are packed, no error"),
    Limit(
        ("uniform_fake_quant", "uniform_encode", "uniform_conv2d"),
        "a step that is not positive, a lowest level beyond 2^20",
        NO_ERROR,
    ),
    Limit(
        ("gemm_s8", "gemm_s4"),
        "rows that are not multiples of 16 bytes, or do not begin at one",
        "a copy with zeros behind the rows first",
    ),
    Limit(
        ("gemm_s4", "uniform_conv2d"),
        "products of 4 bits on compute capability 9.0 and newer",
        "4 bits are made bytes on the way to tensor cores: int8's speed",
    ),
    Limit(("uniform_conv2d",), "more than 256 levels of a kernel's weights", REFERENCE),
    Limit(
        CONVOLUTIONS,
        "weights plus a tile's halo that exceed a block's shared memory: large windows",
        REFERENCE,
    ),
    Limit(
        CONVOLUTIONS,
        "a pixel shuffle where a group's channels are not a multiple of shuffle^2",
        REFERENCE,
    ),
)
