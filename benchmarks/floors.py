"""The least time of a network's layers on a GPU, by its operations and by the bytes that move.

    python -m benchmarks.floors --size 180x320

Computed, not measured, for EDSR-baseline x4: 2 operations a multiply-accumulate at the dense rate
of tensor cores, against every activation read once and written once, and the weights, at the
bandwidth of the memory. What fits into a cache may move faster. Codes take 1 byte or half of one;
a shortcut is codes too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Dense TOP/s (TFLOP/s) by format, and GB/s: NVIDIA's data sheets, at boost clocks."""

    name: str
    rates: dict[str, float]
    bandwidth: float


GPUS = [
    Gpu("T4", {"float16": 65, "int8": 130, "int4": 260}, 320),
    Gpu("H100", {"float16": 989, "int8": 1979}, 3350),
    Gpu("H200", {"float16": 989, "int8": 1979}, 4800),
]
BYTES = {"float16": 2.0, "int8": 1.0, "int4": 0.5}


@dataclass(frozen=True)
class Layer:
    """`count` convolutions 3x3 of c to o channels; `scale`: their pixels along a side, of one."""

    name: str
    count: int
    c: int
    o: int
    scale: int
    residual: bool = False


LAYERS = [
    Layer("head 3->64", 1, 3, 64, 1),
    Layer("body 64->64, ReLU", 16, 64, 64, 1),
    Layer("body 64->64, shortcut", 17, 64, 64, 1, residual=True),
    Layer("upsampler 64->256", 1, 64, 256, 1),
    Layer("upsampler 64->256, second", 1, 64, 256, 2),
    Layer("tail 64->3", 1, 64, 3, 4),
]


def floors(layer: Layer, pixels: int, rate: float, size: float, bandwidth: float) -> list[float]:
    """Return microseconds of one convolution: by operations, by bytes."""
    pixels *= layer.scale**2
    weights = layer.c * layer.o * 9
    moved = pixels * (layer.c + layer.o * (2 if layer.residual else 1)) * size + weights * size
    return [2 * pixels * weights / rate / 1e6, moved / bandwidth / 1e3]


SIZES = ["180x320", "270x480", "540x960", "1080x1920"]


def pages(gpu: Gpu) -> dict[str, list[tuple[str, float]]]:
    """Return how `deploy` runs a whole network: by column, format and bytes a number of each layer.

    DFSQ multiplies int8 and hands on float16. Codes are bytes in memory, of 4 bits too; edges have
    8 bits.
    """
    body = [layer.name.startswith("body") for layer in LAYERS]
    four = "int4" if "int4" in gpu.rates else "int8"
    return {
        "float16": [("float16", 2.0)] * len(LAYERS),
        "DFSQ": [("int8", 2.0)] * len(LAYERS),
        "int8": [("int8", 1.0)] * len(LAYERS),
        "int4 body": [(four if within else "int8", 1.0) for within in body],
    }


def page(gpu: Gpu) -> list[str]:
    """Return the table of docs/deploy-t4.md: milliseconds of a whole network, by floors."""
    columns = pages(gpu)
    lines = [f"| input | {', ms | '.join(columns)}, ms |", "| --- " * (1 + len(columns)) + "|"]
    for size in SIZES:
        height, width = map(int, size.split("x"))
        cells = []
        for layers in columns.values():
            least = sum(
                layer.count * max(floors(layer, height * width, gpu.rates[name], of, gpu.bandwidth))
                for layer, (name, of) in zip(LAYERS, layers, strict=True)
            )
            cells.append(f"{least / 1e3:.1f}")
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="180x320", help="height x width of the input")
    height, width = map(int, parser.parse_args().size.split("x"))
    for gpu in GPUS:
        print(
            f"\n{gpu.name}, {gpu.bandwidth} GB/s: us by operations / by bytes, of one convolution"
        )
        print(
            f"{'':<28}" + "".join(f"{f'{name} ({rate})':>20}" for name, rate in gpu.rates.items())
        )
        total = dict.fromkeys(gpu.rates, 0.0)
        for layer in LAYERS:
            cells = []
            for name, rate in gpu.rates.items():
                found = floors(layer, height * width, rate, BYTES[name], gpu.bandwidth)
                total[name] += layer.count * max(found)
                cells.append(f"{found[0]:9.1f} / {found[1]:7.1f}")
            print(f"{layer.count:>3} x {layer.name:<22}" + "".join(f"{c:>20}" for c in cells))
        print(f"{'all':<28}" + "".join(f"{us:>17.0f} us" for us in total.values()))
    print("\nT4, the whole network, every layer quantized\n\n" + "\n".join(page(GPUS[0])))


if __name__ == "__main__":
    main()
