"""A quantized network and the float one it was made from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ptqsr import checkpoint, models
from ptqsr.config import MAX_BITS
from ptqsr.errors import PtqsrError, one_line
from ptqsr.methods import METHODS, learns
from ptqsr.models import PatchWise, SRNetwork, digest_of
from ptqsr.models.flow import LAYERS
from ptqsr.modules import FakeQuantConv2d, as_convolutions, owner
from ptqsr.quantizers import SelectedQuantizer, choosers
from ptqsr.training.methods.base import CHECKPOINT


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
    provenance: Mapping[str, Any] = field(default_factory=dict)
    patches: int = models.patchwise.PATCH
    overlap: int = models.patchwise.OVERLAP

    @property
    def running(self) -> SRNetwork:
        """The quantized network as pictures go through it."""
        if not choosers(self.quantized):
            return self.quantized
        return PatchWise(self.quantized, patch=self.patches, overlap=self.overlap)

    @cached_property
    def layers(self) -> dict[str, str]:
        """The quantized layers by their names in the float network: where their convolutions are.

        These are the same, but for linear layers and transposed convolutions.
        """
        named = self.quantized.named_modules()
        paths = [path for path, module in named if isinstance(module, FakeQuantConv2d)]
        return {owner(self.quantized, path): path for path in paths}

    @cached_property
    def counterpart(self) -> SRNetwork:
        """The float network with a convolution wherever the quantized one has one."""
        changed = [name for name, path in self.layers.items() if path != name]
        if not changed:
            return self.floating
        made = copy.deepcopy(self.floating)
        as_convolutions(made, changed)
        return made

    def fake(self, name: str) -> FakeQuantConv2d:
        """Return a quantized layer."""
        layer = self.quantized.get_submodule(self.layers[name])
        assert isinstance(layer, FakeQuantConv2d)
        return layer

    def original(self, name: str) -> nn.Conv2d:
        """Return a layer before, as a convolution."""
        layer = self.counterpart.get_submodule(self.layers[name])
        assert isinstance(layer, nn.Conv2d)
        return layer

    @property
    def fitted(self) -> bool:
        """Whether weights were chosen for what the other quantized layers make of the input."""
        config = self.quantized.calibration
        method = METHODS.get(config.method)
        return method is None or method.refines or learns(config)

    @property
    def recipe(self) -> str:
        """Method and bits, as `dfsq, W4A4`."""
        config = self.quantized.calibration
        fakes = [self.fake(name) for name in self.layers]
        method = f"{config.method}, reconstructed" if config.reconstruct else config.method
        if config.layers:
            weights = _spread(fake.weight_bits for fake in fakes)
            return f"{method}, W{weights}A{_spread(fake.act_bits for fake in fakes)} by layer"
        bits = str(config.act_bits)
        for fake in fakes:
            if isinstance(fake.quantizer, SelectedQuantizer):
                bits = "/".join(map(str, fake.quantizer.candidates))
        edges = "" if config.edges is None else f", edges W{config.edges}A{config.edges}"
        return f"{method}, W{config.weight_bits}A{bits}{edges}"


def _spread(bits: Iterable[int]) -> str:
    found = sorted(set(bits))
    return str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}"


def open_subject(
    path: str | Path,
    weights: str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Subject:
    """Return a checkpoint with its float network, both on `device`.

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
    try:
        floating = _float_network(quantized, source)
    except PtqsrError as error:
        if weights is not None:
            raise
        raise PtqsrError(
            f"{path}: needs its float network to compare with: {error} (--weights FILE)"
        ) from None
    place = Path(path).resolve()
    # Of a training run the folder has the name.
    title = place.parent.name if place.name == CHECKPOINT else place.stem
    floating.requires_grad_(False)
    origin = one_line(Path(source).name)
    made = Subject(title, quantized, floating, origin, provenance, **options)
    if stranger := _stranger(made):
        raise PtqsrError(
            f"{path}: was not made from {one_line(source)} ({stranger}); give the weights that it "
            "was made from: --weights FILE"
        )
    quantized.to(device)
    floating.to(device)
    return made


def _float_network(quantized: SRNetwork, source: str) -> SRNetwork:
    """Return the network of float weights: one that the quantized network can be made of."""
    if quantized.architecture in models.ARCHITECTURES:
        given = {name: v for name, v in quantized.hyperparameters.items() if name != "scale"}
        return models.build(quantized.architecture, scale=quantized.scale, weights=source, **given)
    if source in ("bundled", "official"):
        raise PtqsrError(f"no weights of {quantized.title} are {source}")
    floating = models.load(source, scale=quantized.scale)
    if (floating.architecture, floating.hyperparameters) != (
        quantized.architecture,
        quantized.hyperparameters,
    ):
        raise PtqsrError(f"{source}: is another network, {floating.title} x{floating.scale}")
    return floating


def _stranger(subject: Subject) -> str | None:
    """Return what tells that the quantized network was not made from the float one, if anything."""
    tuned = subject.provenance.get("finetuned")
    if isinstance(tuned, dict):
        began = f"of digest {digest_of(subject.floating.state_dict())}"
        return None if tuned.get("weights", began) == began else "its digest is another"
    if subject.quantized.calibration.method not in METHODS:
        return None
    for name in subject.layers:
        layer, original = subject.fake(name), subject.original(name)
        # 8 bits are within some per cent of what they were.
        if layer.weight_bits == MAX_BITS and _distance(layer, original) > 0.5:
            return f"{name} differs"
    before = dict(subject.floating.named_modules())
    for name, module in subject.quantized.named_modules():
        if isinstance(module, LAYERS) and not isinstance(module, FakeQuantConv2d):
            other = before.get(name)
            if not isinstance(other, LAYERS) or not torch.equal(module.weight, other.weight):
                return f"{name} differs"
    return None


def _distance(ours: nn.Conv2d, theirs: nn.Conv2d) -> float:
    """Return |ours - theirs| / |theirs| of the weights."""
    return float((ours.weight - theirs.weight).norm() / theirs.weight.norm().clamp(min=1e-30))
