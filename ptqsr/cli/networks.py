"""Networks that users name: a checkpoint, a weight file, or bundled weights."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from ptqsr import checkpoint, deployment, models
from ptqsr.cli.device import use_device
from ptqsr.errors import PtqsrError

Scale = Annotated[
    int | None,
    typer.Option(
        help="2, 3 or 4, for weight files that hold several scales or do not tell theirs."
    ),
]

Deploy = Annotated[
    bool, typer.Option("--deploy", help="Run in integers, not simulated in floating point.")
]

Patches = Annotated[
    int | None,
    typer.Option(help="Run by patches of so many input pixels, each by itself: CADyQ's are 96."),
]

PatchOverlap = Annotated[
    int | None,
    typer.Option(help=f"Of patches, in input pixels; by default {models.patchwise.OVERLAP}."),
]

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A hyperparameter, as batch_norm=true or blocks=32."
    ),
]


def hyperparameters(settings: list[str] | None) -> dict[str, Any]:
    """Return what --set gives: values are JSON, or else words."""
    found: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier() or name == "scale":
            raise PtqsrError(f"--set {setting}: give a hyperparameter as batch_norm=true")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def float_network(
    model: str | None, scale: int | None, weights: str, settings: list[str] | None
) -> models.SRNetwork:
    """Return the float network of --model, --scale, --weights and --set."""
    chosen = hyperparameters(settings)
    if model is None and weights != "bundled":
        if weights == "official":
            raise PtqsrError("--weights official: say of which network with --model")
        if chosen:
            raise PtqsrError("--set: say of which network with --model")
        return models.load(weights, scale=scale)
    return models.build(model or "edsr", scale=scale, weights=weights, **chosen)


def open_network(name: str, scale: int | None = None) -> models.SRNetwork:
    """Return the network of a checkpoint, of a weight file, or of a bundled name as `edsr_x4`.

    `scale` is for weight files that leave it open.
    """
    if name in models.bundled() and not Path(name).exists():
        architecture, _, bundled_scale = name.rpartition("_x")
        network = models.build(architecture, scale=int(bundled_scale))
    elif not Path(name).exists() and Path(name).name == Path(name).stem == name:
        raise PtqsrError(
            f"{name}: no such file, nor bundled weights: {', '.join(models.bundled())}"
        )
    elif checkpoint.is_checkpoint(name):
        network = checkpoint.load(name)
    else:
        network = models.load(name, scale=scale)
    if scale not in (None, network.scale):
        raise PtqsrError(f"{name}: is for scale {network.scale}, not {scale}")
    return network


@dataclass(frozen=True)
class Running:
    """How the network of a name runs: where, in integers or simulated, whole or by patches.

    `graphs`: on GPUs, deployed, as CUDA graphs, whose memory no estimate knows of.
    """

    name: str
    device: str = "cpu"
    deploy: bool = False
    graphs: bool = True
    patches: int | None = None
    overlap: int | None = None

    def __call__(self, network: models.SRNetwork) -> models.SRNetwork:
        """Return the network as it runs, on the machine that this is called on."""
        place = use_device(self.device)
        if not self.deploy:
            return self.by_patches(network.to(place))
        try:
            if self.graphs:
                network = deployment.deploy(network, place)
            else:
                network = deployment.deploy(network, place, graphs=0)
        except PtqsrError as error:
            raise PtqsrError(f"{self.name}: {error}") from None
        return self.by_patches(network)

    def by_patches(self, network: models.SRNetwork) -> models.SRNetwork:
        """Return a network that runs by patches, where these are asked for, or the network."""
        if self.patches is None:
            if self.overlap is not None:
                raise PtqsrError("--patch-overlap: is for --patches; name their size")
            return network
        overlap = models.patchwise.OVERLAP if self.overlap is None else self.overlap
        return models.PatchWise(network, patch=self.patches, overlap=overlap)


def digest_of(name: str) -> str:
    """Return the SHA-256 of a checkpoint, of a weight file, or of bundled weights."""
    if Path(name).exists():
        content = Path(name).read_bytes()
    else:
        content = (files("ptqsr.models") / "bundled" / f"{name}.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()


def open_or_build(name: str, scale: int | None = None) -> models.SRNetwork:
    """Return a network as `open_network` does, or with random weights by a name as `rdn_x2`."""
    found = re.fullmatch(r"(\w+)_x([234])", name)
    if not found or found[1] not in models.ARCHITECTURES or Path(name).exists():
        return open_network(name, scale)
    if scale not in (None, int(found[2])):
        raise PtqsrError(f"{name}: is for scale {found[2]}, not {scale}")
    return models.build(found[1], scale=int(found[2]), weights=None)
