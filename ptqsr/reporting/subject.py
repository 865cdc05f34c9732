"""A quantized network and the float one it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ptqsr import checkpoint, models
from ptqsr.errors import PtqsrError, one_line
from ptqsr.methods import METHODS
from ptqsr.models import PatchWise, SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import SelectedQuantizer, choosers
from ptqsr.training.methods.base import CHECKPOINT
from ptqsr.training.state import digest_of


@dataclass(frozen=True, eq=False)
class Subject:
    """What a report compares: `quantized`, and `floating`, the same network before.

    `origin` says where the float weights are from; `provenance` is what the checkpoint says of
    itself. `patches`, `overlap`: networks that choose their bits run so, as in CADyQ's paper.
    """

    title: str
    quantized: SRNetwork
    floating: SRNetwork
    origin: str
    provenance: Mapping[str, Any]
    patches: int = models.patchwise.PATCH
    overlap: int = models.patchwise.OVERLAP

    @property
    def running(self) -> SRNetwork:
        """The quantized network as pictures go through it."""
        if not choosers(self.quantized):
            return self.quantized
        return PatchWise(self.quantized, patch=self.patches, overlap=self.overlap)

    @property
    def layers(self) -> dict[str, FakeQuantConv2d]:
        """The quantized convolutions, by name."""
        named = self.quantized.named_modules()
        return {name: m for name, m in named if isinstance(m, FakeQuantConv2d)}

    @property
    def recipe(self) -> str:
        """Method and bits, as `dfsq, W4A4`."""
        config = self.quantized.calibration
        bits = str(config.act_bits)
        for layer in self.layers.values():
            if isinstance(layer.quantizer, SelectedQuantizer):
                bits = "/".join(map(str, layer.quantizer.candidates))
        edges = "" if config.edges is None else f", edges W{config.edges}A{config.edges}"
        return f"{config.method}, W{config.weight_bits}A{bits}{edges}"


def open_subject(path: str | Path, weights: str | None = None, **options: Any) -> Subject:
    """Return a checkpoint with its float network.

    `weights`: "bundled", "official" or a file; by default those that the checkpoint names, or else
    the bundled ones. `options`: of Subject. Raises PtqsrError where there are none, or where these
    are not those that it was made from.
    """
    quantized = checkpoint.load(path)
    provenance = checkpoint.read(path)[0].get("provenance")
    provenance = provenance if isinstance(provenance, dict) else {}
    named = provenance.get("weights")
    source = weights or (named if isinstance(named, str) and named else "bundled")
    if weights is None and source not in ("bundled", "official") and not Path(source).is_file():
        raise PtqsrError(
            f"{path}: was made from {one_line(source)}, which is not here; give the float weights "
            "to compare with: --weights FILE"
        )
    given = {name: value for name, value in quantized.hyperparameters.items() if name != "scale"}
    try:
        floating = models.build(
            quantized.architecture, scale=quantized.scale, weights=source, **given
        )
    except PtqsrError as error:
        if weights is not None:
            raise
        raise PtqsrError(
            f"{path}: needs its float network to compare with: {error} (--weights FILE)"
        ) from None
    if stranger := _stranger(quantized, floating, provenance):
        raise PtqsrError(
            f"{path}: was not made from {one_line(source)} ({stranger}); give the weights that it "
            "was made from: --weights FILE"
        )
    place = Path(path).resolve()
    # Of a training run the folder has the name.
    title = place.parent.name if place.name == CHECKPOINT else place.stem
    floating.requires_grad_(False)
    return Subject(title, quantized, floating, one_line(Path(source).name), provenance, **options)


def _stranger(
    quantized: SRNetwork, floating: SRNetwork, provenance: Mapping[str, Any]
) -> str | None:
    """Return what tells that the quantized network was not made from the float one, if anything."""
    tuned = provenance.get("finetuned")
    if isinstance(tuned, dict):
        began = f"of digest {digest_of(floating.state_dict())}"
        return None if tuned.get("weights", began) == began else "its digest is another"
    if quantized.calibration.method not in METHODS:
        return None
    for name, layer in quantized.named_modules():
        if isinstance(layer, nn.Conv2d) and not isinstance(layer, FakeQuantConv2d):
            before = floating.get_submodule(name)
            assert isinstance(before, nn.Conv2d)
            if not torch.equal(layer.weight, before.weight):
                return f"{name} differs"
    return None
