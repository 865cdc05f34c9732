"""What each step of the convolution and product kernels should give on a T4: computed.

    python -m benchmarks.ladder

Clocks of a multiprocessor for one tile, by the pipes that it needs: tensor cores, shared memory,
issue of instructions, memory. A step says which of them run beside each other; what a GPU measures
stands in benchmarks/results, once one has (`python -m benchmarks.gpu`).
"""

from __future__ import annotations

from dataclasses import dataclass

# A T4 at 1.59 GHz: 40 multiprocessors, 130 TOP/s int8, 320 GB/s; shared memory gives 64 bytes a
# clock, four schedulers issue an instruction of 32 lanes to 16-lane pipes every other clock.
CLOCK, UNITS = 1.59e9, 40
PRODUCTS = 130e12 / 2 / CLOCK / UNITS  # multiply-accumulates a clock
MEMORY = 320e9 / CLOCK / UNITS  # bytes a clock
SHARED = 64.0
ISSUED = 4 * 32 / 2  # lanes' instructions a clock
# Of one result: conversion, scale, bias, ReLU, rounding, limits, packing.
EPILOGUE = 14


@dataclass(frozen=True)
class Tile:
    """Clocks that a tile takes of each pipe."""

    products: float
    shared: float
    epilogue: float
    loaded: float
    stored: float


@dataclass(frozen=True)
class Step:
    """A version of a kernel: its name, clocks of a tile, what changed."""

    name: str
    clocks: float
    why: str


def convolution(bits: int = 8) -> list[Step]:
    """Return the steps of 64->64, 3x3, codes to codes: tiles of 8 x 16 pixels."""
    pixels, c, o, taps = 8 * 16, 64, 64, 9
    size = bits / 8
    macs = pixels * c * o * taps
    # A warp reads 2 x 16 pixels and 64 channels, 32 bytes of K each, for 2 x 8 products.
    operands = macs * size / (32 * 64 * 32) * (32 + 64) * 32
    tile = Tile(
        products=macs / PRODUCTS * size,
        shared=operands / SHARED,
        epilogue=pixels * o * EPILOGUE / ISSUED,
        loaded=pixels * c * size / MEMORY,
        stored=pixels * o * size / MEMORY,
    )
    # A quarter of a sector of 32 bytes is written at a time where a thread stores single bytes.
    halo = 10 * 18 / pixels
    no_tile = tile.loaded * taps
    multiplied = max(tile.products, tile.shared)
    return [
        Step("taps from memory", multiplied + tile.epilogue + no_tile + 4 * tile.stored,
             "implicit GEMM: every tap reads the input again, 1-byte stores"),
        Step("halo in shared memory", multiplied + tile.epilogue + halo * tile.loaded
             + 4 * tile.stored, "nine taps from one load"),
        Step("16-byte stores", multiplied + tile.epilogue + halo * tile.loaded + tile.stored,
             "output channels in the order of the threads that hold them"),
        Step("next halo on its way", max(multiplied, halo * tile.loaded) + tile.epilogue
             + tile.stored, "cp.async, by registers on Turing"),
        Step("two teams", max(multiplied, tile.epilogue, halo * tile.loaded + tile.stored),
             "one stores while the other multiplies"),
    ]  # fmt: skip


def product(bits: int = 8) -> list[Step]:
    """Return the steps of a product of 128 x 128 results, by 64 bytes of K."""
    m = n = 128
    size = bits / 8
    k = 64 / size
    tile = Tile(
        products=m * n * k / PRODUCTS * size,
        # 8 warps of 32 x 64 results.
        shared=8 * (32 + 64) * 64 / SHARED,
        epilogue=0,  # once for all of K
        loaded=(m + n) * 64 / MEMORY / 4,  # three quarters come from L2
        stored=0,
    )
    multiplied = max(tile.products, tile.shared)
    small = max(tile.products, 2 * tile.shared)
    return [
        Step("warps of 32 x 32", small + tile.loaded, "load, wait, multiply"),
        Step("warps of 32 x 64", multiplied + tile.loaded, "operands are read half as often"),
        Step("next slab on its way", max(multiplied, tile.loaded),
             "cp.async, by registers on Turing"),
    ]  # fmt: skip


def report(title: str, steps: list[Step], ideal: float) -> None:
    print(f"\n{title}: clocks of a tile, computed\n")
    print("| step | clocks | of the tensor cores' rate | |")
    print("| --- | --- | --- | --- |")
    for step in steps:
        print(f"| {step.name} | {step.clocks:.0f} | {ideal / step.clocks:.0%} | {step.why} |")


def main() -> None:
    for bits in (8, 4):
        ideal = 8 * 16 * 64 * 64 * 9 / PRODUCTS * bits / 8
        report(f"uniform_conv2d, {bits} bits, 64->64", convolution(bits), ideal)
    report("gemm_s8", product(), 128 * 128 * 64 / PRODUCTS)
    pixels, c = 270 * 480, 64
    passing = 3 * c * pixels / MEMORY / CLOCK / UNITS * 1e6
    products = pixels * c * c * 9 / PRODUCTS / CLOCK / UNITS * 1e6
    print(
        f"\n1x64x270x480: {passing:.0f} us to read float16 and write codes in a pass of its own, "
        f"{products:.0f} us of products at least"
    )


if __name__ == "__main__":
    main()
