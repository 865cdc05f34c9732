"""The exported network beside the deployed one (PSNR) and beside its float form (time).

    python -m benchmarks.export --data ../shared/data

The bundled EDSR x4 by MinMax at 8 bits, the body alone and with `--edges 8`, and by DFSQ at 4,
calibrated as `ptqsr calibrate` does by default; exported, as its float form is, for any size, and
run by ONNX Runtime and OpenVINO on one thread. PSNR on Set5, whole pictures and their corners of
48x48 pixels; times of the static ones in turn, ratios round by round. The goals: PSNR within
0.02 dB of the deployed network at both sizes, and with `--edges 8`, in ONNX Runtime, at least twice
as fast as float. Exits with 1 where one is missed. Without `--edges 8` the upsampler and the tail,
40 % of the products, stay floating point; DFSQ's statistics have no integer form there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import ptqsr
from benchmarks.tables import networks
from benchmarks.timer import Timing, as_json, compare, write
from ptqsr import Config, models
from ptqsr.benchmarking.peers import onnxruntime_run, openvino_run
from ptqsr.exporting import PICTURE, onnxruntime_session
from ptqsr.models import SRNetwork

SIZES = ((90, 160), (180, 320))
CORNER = 48
CONFIGS = {
    "DFSQ": Config(bits=4),
    "body": Config(method="minmax", bits=8),
    "edges 8": Config(method="minmax", bits=8, edges=8),
}
WITHIN_DB, FASTER = 0.02, 2.0


class ByRuntime(SRNetwork):
    """An exported file as a network, run by ONNX Runtime."""

    architecture = "exported"

    def __init__(self, path: Path, scale: int) -> None:
        super().__init__(scale=scale)
        self.session = onnxruntime_session(path, 1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.session.run(None, {PICTURE: x.numpy()})[0])


def quality(form: str, quantized: SRNetwork, path: Path, pairs: list[Any]) -> list[dict[str, Any]]:
    """Return PSNR simulated, deployed and exported, of whole pictures and of corners."""
    scale = quantized.scale
    corners = [
        (name, lr[:CORNER, :CORNER], hr[: CORNER * scale, : CORNER * scale])
        for name, lr, hr in pairs
    ]
    running = {
        "simulated": quantized,
        "deployed": ptqsr.deploy(quantized),
        "exported": ByRuntime(path, scale),
    }
    rows = []
    for size, several in (("whole", pairs), (f"{CORNER}x{CORNER}", corners)):
        psnr = {how: ptqsr.evaluate(net, several).psnr for how, net in running.items()}
        difference = psnr["exported"] - psnr["deployed"]
        rows.append({"form": form, "pictures": size, **psnr, "difference": difference})
        print(
            f"{form:<8} Set5, {size:<6} "
            + "  ".join(f"{how} {value:.4f}" for how, value in psnr.items())
            + f"  exported - deployed {difference:+.4f} dB (goal {WITHIN_DB})",
            flush=True,
        )
    return rows


def times(files: dict[str, Path], deployed: SRNetwork, rounds: int) -> dict[str, list[Timing]]:
    """Return the timings by size; ratios are over ONNX Runtime's float32."""
    found = {}
    for height, width in SIZES:
        x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        runs: dict[str, Callable[[], object]] = {
            f"ONNX Runtime, {form}": onnxruntime_run(str(path), x, 1)
            for form, path in files.items()
        }
        if find_spec("openvino") is not None:
            for form, path in files.items():
                runs[f"OpenVINO, {form}"] = openvino_run(str(path), x, 1)
        runs["ptqsr, edges 8"] = lambda x=x: deployed(x)  # type: ignore[misc]
        size = f"{height}x{width}"
        with torch.inference_mode():
            found[size] = compare(runs, rounds=rounds)
        for timing in found[size]:
            print(timing.line("edsr x4", size), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", default="benchmarks/results/export.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (chosen,) = networks.available(Path(), scales=(4,), only=("EDSR",))
    network, crops = models.build("edsr", scale=4), chosen.crops(arguments.data)
    pairs = networks.pairs(arguments.data, "Set5", 4)
    figures: dict[str, Any] = {"psnr": [], "exports": {}, "times": {}}
    with tempfile.TemporaryDirectory() as folder:
        files = {"float32": Path(folder) / "float32.onnx"}
        ptqsr.export(network, files["float32"])
        for form, config in CONFIGS.items():
            quantized = ptqsr.calibrate(network, crops, config)
            files[form] = Path(folder) / f"{form}.onnx"
            made = ptqsr.export(quantized, files[form])
            figures["exports"][form] = {**made.to_json(), "path": files[form].name}
            layers = len(made.integer) + len(made.unfused) + len(made.floating)
            print(f"{form:<8} {len(made.integer)} of {layers} convolutions in integers", flush=True)
            figures["psnr"] += quality(form, quantized, files[form], pairs)
        static = {form: path for form, path in files.items() if form != "DFSQ"}
        found = times(static, ptqsr.deploy(quantized), arguments.rounds)
    figures["times"] = {size: as_json(timings) for size, timings in found.items()}
    write(arguments.json, figures)
    missed = [row for row in figures["psnr"] if abs(row["difference"]) > WITHIN_DB]
    for size, timings in found.items():
        ratio = next(t.ratio for t in timings if t.name == "ONNX Runtime, edges 8")
        print(f"edges 8, {size}: {1 / ratio:.2f} times as fast as float32 (goal {FASTER})")
        if ratio > 1 / FASTER:
            missed.append({"size": size, "ratio": ratio})
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
