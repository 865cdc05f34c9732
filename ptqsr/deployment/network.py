"""Deployed networks: what a quantized network computes, in integers."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from ptqsr.deployment.graphs import Graphs
from ptqsr.deployment.program import Program, program
from ptqsr.deployment.store import Store
from ptqsr.errors import PtqsrError
from ptqsr.lowering import DropIn, Float, Plan, lower, trace
from ptqsr.models import PatchWise, SRNetwork, check_network
from ptqsr.models.flow import LAYERS
from ptqsr.modules import (
    FakeQuantConv2d,
    QuantConv2d,
    SelectedConv,
    SelectedQuantConv2d,
    blind,
    integer_conv,
    placed,
    replace,
    selected_conv,
    sense,
)
from ptqsr.ops.cuda.usable import gpu_problem
from ptqsr.quantizers import SelectedQuantizer, choosers

METHODS = ("forward", "features", "reconstruct")

log = logging.getLogger("ptqsr")


class DeployedNetwork(SRNetwork):
    """A quantized network that runs in integers. `plan` says what of it, and how.

    `store` holds its constants and float layers; a program carries out the Plan of one method.
    Pictures and what it gives are float32, on its device. On a GPU a shape that comes again is
    recorded as a CUDA graph, at most `graphs` of them; several threads and streams may use it.
    """

    def __init__(
        self,
        network: SRNetwork,
        plan: Plan,
        store: nn.Module,
        programs: Mapping[str, Program],
        graphs: int = 0,
    ) -> None:
        super().__init__(scale=network.scale, colours=network.colours)
        self.architecture = network.architecture  # type: ignore[misc]
        self.name = network.name
        self.hyperparameters = dict(network.hyperparameters)
        self.quantized_layers = network.quantized_layers
        self.calibration = network.calibration
        self.plan = plan
        self.store = store
        self._programs = dict(programs)
        self._graphs = Graphs(graphs)
        self._tensors: list[torch.Tensor] | None = None  # all that the programs read
        self.register_load_state_dict_post_hook(DeployedNetwork._forget)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the enlarged picture: both halves as one, so that fusion crosses them."""
        return self._run("forward", x)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self._run("features", x)

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self._run("reconstruct", x, features)

    def _run(self, method: str, *inputs: torch.Tensor) -> torch.Tensor:
        if not self._records(inputs):
            return self._eager(method, *inputs)
        tensors = self._tensors
        if tensors is None:
            tensors = self._tensors = [*self.parameters(), *self.buffers()]
        # A recording has what was made of weights: none is replayed after these have changed.
        version = sum(0 if t.is_inference() else t._version for t in tensors)
        function = partial(self._eager, method)
        return self._graphs.run((method, version), function, inputs)

    def _eager(self, method: str, *inputs: torch.Tensor) -> torch.Tensor:
        run, floats = self._programs[method], self.plan.floats
        if floats == torch.float32:
            return run(self.store, *inputs)
        # Its types are its own.
        with torch.autocast(inputs[0].device.type, enabled=False):
            return run(self.store, *(x.to(floats) for x in inputs)).to(inputs[0].dtype)

    def _records(self, inputs: tuple[torch.Tensor, ...]) -> bool:
        """Return whether work on inputs may become a CUDA graph, and is not becoming one."""
        return (
            self._graphs.limit > 0
            and all(x.is_cuda and not x.requires_grad for x in inputs)
            and not torch.compiler.is_compiling()
            and not torch.cuda.is_current_stream_capturing()
            # What a hook sees would be that of the recording, always.
            and not any(layer._forward_hooks for layer in choosers(self).values())
        )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> DeployedNetwork:
        self._forget()
        super()._apply(fn, recurse)
        return self

    def _forget(self, *_: object) -> None:
        """Forget recordings: tensors have been moved or loaded."""
        self._graphs.clear()
        self._tensors = None


# Within inference mode nothing can be traced.
@torch.inference_mode(False)
def deploy(
    network: SRNetwork,
    device: str | torch.device = "cpu",
    between: torch.dtype | None = None,
    graphs: int = 8,
) -> DeployedNetwork:
    """Return a calibrated network as one that runs in integers; it stays as it is.

    device: the CPU, or a GPU, where layers that stay floating point compute in float16, and all
    that layers give each other is float16 too.

    between: how numbers are stored that only integer convolutions read. torch.float16 halves the
    memory that is read and written. It keeps 11 bits of numbers from 6e-5 on, fewer of smaller
    ones; 65520 and more become infinite, and the picture NaN. torch.float32 keeps all. None:
    float16 for DFSQ, float32 for static methods, which would no longer be what was simulated.

    A network whose steps cannot be traced gets integer convolutions in the places of its quantized
    ones, and a warning says so. Layers that have no integer form stay simulated in floating point;
    `.plan` and `ptqsr info` name them.

    graphs: of how many shapes of pictures CUDA graphs are kept, each with the memory that the
    network takes; 0 for none.

    Raises PtqsrError for a network that is not quantized or of which no layer has an integer form,
    and for a device without kernels, with the reason.
    """
    device = _usable(device)
    _check_between(between)
    ours = _deployable(network)
    store = Store()
    floats = torch.float32 if device.type == "cpu" else torch.float16
    try:
        plans = plan_methods(ours, between, floats)
    except PtqsrError as reason:
        log.warning(
            "the network cannot be traced (%s): its quantized convolutions run in integers one by "
            "one, nothing is fused",
            reason,
        )
        return _drop_in(ours, str(reason), graphs).to(device)
    _check_integers(plans["forward"])
    programs = {method: program(plan, store) for method, plan in plans.items()}
    return DeployedNetwork(ours, plans["forward"], store, programs, graphs).eval().to(device)


def _usable(device: str | torch.device) -> torch.device:
    """Return a device on which integer convolutions have kernels; raises PtqsrError for others."""
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise PtqsrError(f"device {device}: no such device; give cpu, cuda or cuda:1") from None
    if found.type == "cpu":
        return found
    if found.type != "cuda":
        raise PtqsrError(f"device {device}: deployed networks run on cpu or cuda")
    number = found.index
    if number is None:
        number = torch.cuda.current_device() if torch.cuda.is_available() else 0
    found = torch.device("cuda", number)
    if problem := gpu_problem(found):
        raise PtqsrError(f"device {device}: {problem}")
    return found


@torch.inference_mode(False)
def plan(network: SRNetwork, between: torch.dtype | None = None) -> Plan:
    """Return how `deploy` would run a quantized network; raises PtqsrError where it would."""
    _check_between(between)
    ours = _deployable(network)
    try:
        return plan_methods(ours, between)["forward"]
    except PtqsrError as reason:
        return _drop_in_plan(ours, str(reason))


def plan_methods(
    network: SRNetwork, between: torch.dtype | None = None, floats: torch.dtype = torch.float32
) -> dict[str, Plan]:
    """Return the Plan of each of a network's methods, which share their tensors.

    The network is given up to it.
    """
    for name, layer in choosers(network).items():
        quantizer = layer.get_submodule("quantizer")
        if isinstance(quantizer, SelectedQuantizer) and quantizer.weights_follow:
            raise PtqsrError(f"the weight of {name} follows the bits that samples choose")
    blind(network)  # the Plan measures the pictures itself
    as_integers = lru_cache(maxsize=None)(integer_conv)
    return {
        method: lower(trace(network, method), as_integers, between, floats) for method in METHODS
    }


def _check_between(between: torch.dtype | None) -> None:
    if between not in (None, torch.float16, torch.float32):
        raise PtqsrError(f"between is {between}, must be None, torch.float16 or torch.float32")


def _deployable(network: SRNetwork) -> SRNetwork:
    """Return a copy that may be changed, on the CPU."""
    check_network(network)
    if isinstance(network, DeployedNetwork):
        raise PtqsrError("the network is deployed already")
    if isinstance(network, PatchWise):
        raise PtqsrError("the network runs by patches; deploy the one that it runs")
    if not any(isinstance(layer, FakeQuantConv2d) for layer in network.modules()):
        raise PtqsrError("the network is not quantized; calibrate it first")
    if any(True for _ in placed(network)):
        raise PtqsrError(
            "its quantizers stand where the paper has them, in shortcuts too, which has no integer "
            "form; fine-tune with --placement deployable"
        )
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
    """Return every layer, most of them in integers; raises PtqsrError where none is."""
    found, why = [], ""
    for name, layer in network.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        record = DropIn(name, layer, None, "not quantized")
        if isinstance(layer, FakeQuantConv2d):
            try:
                chooses = isinstance(layer.quantizer, SelectedQuantizer)
                conv = selected_conv(layer) if chooses else integer_conv(layer)
                record = DropIn(name, None, conv, None)
            except PtqsrError as reason:
                record = DropIn(name, layer, None, str(reason))
                why = why or f"layer {name}: {reason}"
        found.append(record)
    if all(record.conv is None for record in found):
        raise PtqsrError(f"no layer can run in integers: {why}")
    return found


def _drop_in_plan(network: SRNetwork, reason: str) -> Plan:
    return Plan(("x",), tuple(_drop_ins(network)), "y", reason=reason)


def _drop_in(network: SRNetwork, reason: str, graphs: int) -> DeployedNetwork:
    made = _drop_in_plan(network, reason)
    swaps: dict[nn.Module, nn.Module] = {}
    for record in made.records:
        if isinstance(record, DropIn) and record.conv is not None:
            selected = isinstance(record.conv, SelectedConv)
            make = SelectedQuantConv2d if selected else QuantConv2d
            swaps[network.get_submodule(record.layer)] = make(record.conv)  # type: ignore[arg-type]
            # Which kernels run next depends on what was computed: nothing that a graph can hold.
            graphs = 0 if selected else graphs
    replace(network, swaps)
    if choosers(network):
        sense(network)
    programs: dict[str, Program] = {
        "forward": _forward,
        "features": _features,
        "reconstruct": _reconstruct,
    }
    return DeployedNetwork(network, made, network, programs, graphs).eval()


def _forward(network: SRNetwork, x: torch.Tensor) -> torch.Tensor:
    return network(x)


def _features(network: SRNetwork, x: torch.Tensor) -> torch.Tensor:
    return network.features(x)


def _reconstruct(network: SRNetwork, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return network.reconstruct(x, features)
