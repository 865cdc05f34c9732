"""Deployed networks: what a quantized network computes, in integers."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import nn

from ptqsr.deployment.program import Program, program
from ptqsr.deployment.store import Store
from ptqsr.errors import PtqsrError
from ptqsr.lowering import DropIn, Float, Plan, lower, trace
from ptqsr.models import SRNetwork, check_network
from ptqsr.modules import FakeQuantConv2d, QuantConv2d, integer_conv, replace

METHODS = ("forward", "features", "reconstruct")

log = logging.getLogger("ptqsr")


class DeployedNetwork(SRNetwork):
    """A quantized network that runs in integers. `plan` says what of it, and how.

    `store` holds its constants and float layers; a program carries out the Plan of one method.
    """

    def __init__(
        self, network: SRNetwork, plan: Plan, store: nn.Module, programs: Mapping[str, Program]
    ) -> None:
        super().__init__(scale=network.scale, colours=network.colours)
        self.architecture = network.architecture  # type: ignore[misc]
        self.hyperparameters = dict(network.hyperparameters)
        self.quantized_layers = network.quantized_layers
        self.calibration = network.calibration
        self.plan = plan
        self.store = store
        self._programs = dict(programs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the enlarged picture: both halves as one, so that fusion crosses them."""
        return self._programs["forward"](self.store, x)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self._programs["features"](self.store, x)

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self._programs["reconstruct"](self.store, x, features)


# Within inference mode nothing can be traced.
@torch.inference_mode(False)
def deploy(
    network: SRNetwork,
    device: str | torch.device = "cpu",
    between: torch.dtype | None = None,
) -> DeployedNetwork:
    """Return a calibrated network as one that runs in integers; it stays as it is.

    between: how numbers are stored that only integer convolutions read. torch.float16 halves the
    memory that is read and written. It keeps 11 bits of numbers from 6e-5 on, fewer of smaller
    ones; 65520 and more become infinite, and the picture NaN. torch.float32 keeps all. None:
    float16 for DFSQ, float32 for static methods, which would no longer be what was simulated.

    A network whose steps cannot be traced gets integer convolutions in the places of its quantized
    ones, and a warning says so. Layers that have no integer form stay simulated in floating point;
    `.plan` and `ptqsr info` name them. Raises PtqsrError for a network that is not quantized or of
    which no layer has an integer form, and for other devices than the CPU.
    """
    if torch.device(device).type != "cpu":
        raise PtqsrError(f"device {device}: deployed networks run on the CPU; CUDA comes later")
    _check_between(between)
    ours = _deployable(network)
    store = Store()
    try:
        plans = plan_methods(ours, between)
    except PtqsrError as reason:
        log.warning(
            "the network cannot be traced (%s): its quantized convolutions run in integers one by "
            "one, nothing is fused",
            reason,
        )
        return _drop_in(ours, str(reason))
    _check_integers(plans["forward"])
    programs = {method: program(plan, store) for method, plan in plans.items()}
    return DeployedNetwork(ours, plans["forward"], store, programs).eval()


@torch.inference_mode(False)
def plan(network: SRNetwork, between: torch.dtype | None = None) -> Plan:
    """Return how `deploy` would run a quantized network; raises PtqsrError where it would."""
    _check_between(between)
    ours = _deployable(network)
    try:
        return plan_methods(ours, between)["forward"]
    except PtqsrError as reason:
        return _drop_in_plan(ours, str(reason))


def plan_methods(network: SRNetwork, between: torch.dtype | None = None) -> dict[str, Plan]:
    """Return the Plan of each of a network's methods, which share their tensors."""
    as_integers = lru_cache(maxsize=None)(integer_conv)
    return {method: lower(trace(network, method), as_integers, between) for method in METHODS}


def _check_between(between: torch.dtype | None) -> None:
    if between not in (None, torch.float16, torch.float32):
        raise PtqsrError(f"between is {between}, must be None, torch.float16 or torch.float32")


def _deployable(network: SRNetwork) -> SRNetwork:
    """Return a copy that may be changed, for running on the CPU."""
    check_network(network)
    if isinstance(network, DeployedNetwork):
        raise PtqsrError("the network is deployed already")
    if not any(isinstance(layer, FakeQuantConv2d) for layer in network.modules()):
        raise PtqsrError("the network is not quantized; calibrate it first")
    return copy.deepcopy(network).eval().requires_grad_(False).to("cpu")


def _check_integers(found: Plan) -> None:
    """Raise PtqsrError where nothing would run in integers."""
    if any(True for _ in found.convolutions):
        return
    reasons = [
        f"layer {record.node.target}: {record.why}"
        for record in found.records
        if isinstance(record, Float) and isinstance(record.module, FakeQuantConv2d)
    ]
    raise PtqsrError(f"no layer can run in integers: {reasons[0] if reasons else 'none is used'}")


def _drop_ins(network: SRNetwork) -> list[DropIn]:
    """Return every convolution, most of them in integers; raises PtqsrError where none is."""
    found, why = [], ""
    for name, layer in network.named_modules():
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        record = DropIn(name, layer, None, "not quantized")
        if isinstance(layer, FakeQuantConv2d):
            try:
                record = DropIn(name, None, integer_conv(layer), None)
            except PtqsrError as reason:
                record = DropIn(name, layer, None, str(reason))
                why = why or f"layer {name}: {reason}"
        found.append(record)
    if all(record.conv is None for record in found):
        raise PtqsrError(f"no layer can run in integers: {why}")
    return found


def _drop_in_plan(network: SRNetwork, reason: str) -> Plan:
    return Plan(("x",), tuple(_drop_ins(network)), "y", reason)


def _drop_in(network: SRNetwork, reason: str) -> DeployedNetwork:
    made = _drop_in_plan(network, reason)
    swaps: dict[nn.Module, nn.Module] = {
        network.get_submodule(record.layer): QuantConv2d(record.conv)
        for record in made.records
        if isinstance(record, DropIn) and record.conv is not None
    }
    replace(network, swaps)
    programs: dict[str, Program] = {
        "forward": _forward,
        "features": _features,
        "reconstruct": _reconstruct,
    }
    return DeployedNetwork(network, made, network, programs).eval()


def _forward(network: SRNetwork, x: torch.Tensor) -> torch.Tensor:
    return network(x)


def _features(network: SRNetwork, x: torch.Tensor) -> torch.Tensor:
    return network.features(x)


def _reconstruct(network: SRNetwork, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return network.reconstruct(x, features)
