"""Put a trained network into the package: float16 safetensors and a model card.

    python tools/bundle_weights.py RUN --data ../shared/data --pictures "..." --hardware "..."

The card's PSNR and SSIM are measured on the file as shipped, read back from disk.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import ptqsr
from ptqsr import models

BUNDLED = Path(models.__file__).parent / "bundled"
SETS = ("Set5", "Set14", "BSD100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", required=True, help="what it was trained on")
    parser.add_argument("--hardware", required=True)
    parser.add_argument("--commit", required=True, help="of the code that trained it")
    parser.add_argument("--note", default="", help="what else the recipe needs to be repeated")
    arguments = parser.parse_args()
    network = models.load(arguments.run / "weights.safetensors")
    name = f"{network.architecture}_x{network.scale}"
    path = BUNDLED / f"{name}.safetensors"
    BUNDLED.mkdir(exist_ok=True)
    weights = load_file(arguments.run / "weights.safetensors")
    # The mean colours are constants of the network, and float16 would round them.
    learned = {key: t.half() for key, t in weights.items() if "_mean." not in key}
    save_file(learned, path)
    shipped = models.load(path)
    results = {which: ptqsr.evaluate(shipped, arguments.data / which) for which in SETS}
    state = torch.load(arguments.run / "state.pt", map_location="cpu", weights_only=True)
    lines = (arguments.run / "log.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    card = [
        f"# {name}",
        "",
        f"`{network.architecture}`, {json.dumps(network.hyperparameters)}; float16, "
        f"{path.stat().st_size / 2**20:.1f} MiB. Input and output: RGB in [0, 1].",
        "",
        "| set | PSNR (dB, Y) | SSIM (Y) |",
        "| --- | --- | --- |",
        *(f"| {which} | {r.psnr:.3f} | {r.ssim:.4f} |" for which, r in results.items()),
        "",
        "Measured by `ptqsr evaluate` on this file; LR pictures by MATLAB's bicubic.",
        "",
        f"- Pictures: {arguments.pictures}",
        f"- Recipe: {json.dumps(state['identity'])}",
        f"- Run: {last['step']} steps, {last['seconds'] / 60:.0f} minutes, on {arguments.hardware}",
        f"- Code: commit {arguments.commit}",
    ]
    if arguments.note:
        card.append(f"- Note: {arguments.note}")
    (BUNDLED / f"{name}.md").write_text("\n".join(card) + "\n", encoding="utf-8")
    print("\n".join(card))


if __name__ == "__main__":
    main()
