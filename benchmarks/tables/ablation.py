"""DFSQ with parts taken away or changed: its Table 1 and Fig. 6, and what we changed.

    python -m benchmarks.tables.ablation --data ../shared/data --weights ../shared/weights --quick

One thing differs from DFSQ (k-means, dfsq-107) at a time. Table 1 has channel-wise points ("Cha.")
and normalisation ("Norm.") each there or not; what it calls none is values as they are, and we add
the fairer one, mean and largest magnitude of a sample's whole tensor. Fig. 6 has 2 to 5 words.
`--quick`: Set5 and Set14 only. Resumable: a row that the result file holds is not computed again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import ptqsr
from benchmarks.tables import networks
from benchmarks.tables.results import FOLDER, Key, Results, Row, markdown_table, origin
from benchmarks.tables.variants import Variant, words
from ptqsr import Config

SETS = ("Set5", "Set14", "BSD100")
KEYS = ("network", "bits", "variant")
NETWORKS = ("IMDN x4 (authors')", "CARN-M x4 (authors')", "EDSR x4 (bundled)")
BITS = (4, 3)
VARIANTS: Mapping[str, Variant] = {
    "DFSQ": Variant(),
    "one subset a tensor (Table 1: Norm.)": Variant(points="tensor"),
    "no normalisation (Table 1: Cha.)": Variant(normalisation="none"),
    "neither (Table 1: none)": Variant(points="tensor", normalisation="none"),
    "normalised by tensor": Variant(normalisation="tensor"),
    "normalised by tensor, one subset a tensor": Variant("tensor", "tensor"),
    "2 words, 29 values (Fig. 6)": Variant(words=words(2)),
    "3 words, 63 values (Fig. 6)": Variant(words=words(3)),
    "5 words, 157 values (Fig. 6)": Variant(words=words(5)),
    "sq-2word, 29 values": Variant(words="sq-2word"),
    "int8, 255 values": Variant(words="int8"),
    "dfsq-code, 377 values": Variant(words="dfsq-code"),
    "mean subtracted in all channels": Variant(mean=True),
}


def order(key: Key) -> tuple[int, ...]:
    return NETWORKS.index(key[0]), -key[1], list(VARIANTS).index(key[2])


def markdown(rows: list[Row]) -> str:
    """Return the PSNR of every set, a line for each variant, a column for each network and bits."""
    found = {(row["network"], row["bits"], row["variant"]): row for row in rows}
    columns = list(dict.fromkeys((row["network"], row["bits"]) for row in rows))
    heads = [f"{network.split(' (')[0]}, {bits} bits" for network, bits in columns]

    def cell(row: Row) -> str:
        return " / ".join(f"{row[name]['psnr']:.3f}" for name in SETS if name in row)

    lines = (
        [variant, *(cell(found.get((*column, variant), {})) for column in columns)]
        for variant in VARIANTS
    )
    return markdown_table(["variant", *heads], lines)


def results(path: Path) -> Results:
    return Results(path, KEYS, markdown, order)


def calibrate(
    model: ptqsr.models.SRNetwork, pictures: Sequence, variant: Variant, bits: int
) -> ptqsr.models.SRNetwork:
    with tempfile.TemporaryDirectory() as folder, variant.registered(Path(folder)) as options:
        return ptqsr.calibrate(model, pictures, Config(bits=bits, **options))


def fill(table: Results, network: networks.Network, sets: Sequence[str], options: Options) -> None:
    """Compute a network's rows that lack a set."""
    model, crops = network.build(options.weights), network.crops(options.data)
    pictures = {name: networks.pairs(options.data, name, network.scale) for name in sets}
    for bits in options.bits:
        for name, variant in VARIANTS.items():
            key = (network.name, bits, name)
            if all(part in (table.get(*key) or ()) for part in sets):
                continue
            start = time.perf_counter()
            quantized = calibrate(model, crops, variant, bits)
            row: Row = {**dict(zip(KEYS, key, strict=True)), **origin()}
            for part in sets:
                found = ptqsr.evaluate(quantized, pictures[part])
                row[part] = {"psnr": round(found.psnr, 4), "ssim": round(found.ssim, 5)}
            table.put(row)
            print(f"{row} {time.perf_counter() - start:.1f} s", flush=True)


class Options(argparse.Namespace):
    data: Path
    weights: Path
    bits: Sequence[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    networks.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="Set5 and Set14 only")
    parser.add_argument("--only", nargs="*", default=NETWORKS, help="networks whose names begin so")
    parser.add_argument("--bits", type=int, nargs="+", default=BITS)
    parser.add_argument("--json", type=Path, default=FOLDER / "ablation.json")
    options = parser.parse_args(namespace=Options())
    table = results(options.json)
    for network in networks.available(options.weights, only=options.only):
        if network.name in NETWORKS:
            fill(table, network, SETS[:2] if options.quick else SETS, options)
    table.write()
    print(markdown(table.rows))


if __name__ == "__main__":
    main()
