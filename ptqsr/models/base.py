"""What every SR network of ptqsr offers to the rest."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models.flow import GATE, LAYERS, Place

Colours = Literal["rgb", "y"]
Network = TypeVar("Network", bound=nn.Module)


class SRNetwork(nn.Module):
    """A super-resolution network: float32 [N, C, H, W] in [0, 1] -> [N, C, scale H, scale W].

    C is 3 (RGB), or 1 (luma) where `colours` is "y". Constructors take keywords only and are kept
    in `hyperparameters`, so that `type(net)(**net.hyperparameters)` builds the network again.
    """

    architecture: ClassVar[str]
    # Name patterns (fnmatch) of the convolutions that the papers quantize.
    quantized_layers: tuple[str, ...]
    # Name patterns of modules, one tensor in and one out, whose quantized convolutions are tuned
    # together (methods.reconstruct); convolutions outside of these are tuned one by one.
    block_patterns: ClassVar[tuple[str, ...]] = ()
    # Whether it is known where `features` ends and `reconstruct` begins.
    divided: ClassVar[bool] = True
    # Name patterns of constants that weight files may lack.
    constants: ClassVar[tuple[str, ...]] = ()
    # Name patterns of quantized convolutions that FQR, the mean of feature bits, leaves out.
    outside_fqr: ClassVar[tuple[str, ...]] = ()
    # Name patterns of convolutions that read one value of each channel, as attention does: nothing
    # is saved there, and `Config(edges=8)` leaves them in floating point.
    gates: ClassVar[tuple[str, ...]] = ()
    # What it is called; None: as its architecture.
    name: str | None = None
    # The options of the calibration that quantized it; None for a float network.
    calibration: Any = None
    # What block reconstruction did, a record for each block; not saved.
    reconstruction: Sequence[dict[str, Any]] = ()

    def __init__(self, *, scale: int, colours: Colours = "rgb", **hyperparameters: Any) -> None:
        super().__init__()
        self.scale = scale
        self.colours: Colours = colours
        self.hyperparameters: dict[str, Any] = {"scale": scale, **hyperparameters}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reconstruct(x, self.features(x))

    @property
    def title(self) -> str:
        """What the network is called in tables and file names."""
        return self.name or self.architecture

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the network makes of x before it enlarges: [N, F, H, W].

        All that the papers quantize is in here.
        """
        raise NotImplementedError

    def places(self) -> dict[str, Place]:
        """Return what every layer is to the network, by name: what can be quantized, and is."""
        layers = {name: m for name, m in self.named_modules() if isinstance(m, LAYERS)}
        return {name: self._place(name, layer) for name, layer in layers.items()}

    def _place(self, name: str, layer: nn.Module) -> Place:
        if matches(name, self.quantized_layers):
            return Place("body", "on the network's list: what the papers quantize")
        if matches(name, self.gates):
            return Place("other", GATE)
        if not isinstance(layer, nn.Conv2d):
            return Place("other", f"{type(layer).__name__} outside the body")
        return Place("edge", "not on the network's list: the papers leave it in floating point")

    def residual_blocks(self) -> dict[str, str]:
        """Return the names of the residual blocks, and of the layer that ends each one's branch.

        PAMS quantizes what goes into a block, and what its branch adds.
        """
        return {}

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return the output: upsampler and tail, which look at a small neighbourhood only."""
        raise NotImplementedError

    def adapt(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a weight file's state with this network's names, less what it has no use for."""
        return dict(state)

    def problem_with(self, state: Mapping[str, torch.Tensor]) -> str | None:
        """Return why a state of the right names and shapes still does not fit, if it does not."""
        return None

    def check_output(self, x: torch.Tensor, y: torch.Tensor, name: str) -> None:
        """Raise PtqsrError where y cannot be this network's output for the picture `name`."""
        expected = (x.shape[2] * self.scale, x.shape[3] * self.scale)
        if tuple(y.shape[2:]) != expected:
            raise PtqsrError(
                f"{name}: the network makes {y.shape[3]}x{y.shape[2]} of "
                f"{x.shape[3]}x{x.shape[2]} pixels; is its scale really {self.scale}?"
            )
        if not torch.isfinite(y).all():
            raise PtqsrError(f"{name}: the network's output holds NaN or Inf; check its weights")


def check_network(model: object) -> None:
    """Raise PtqsrError for a module that is not in the zoo's clothes."""
    if not isinstance(model, SRNetwork):
        raise PtqsrError(
            f"{type(model).__name__} is no network of ptqsr; wrap it: "
            "ptqsr.models.wrap(module, scale=...), or take what ptqsr.calibrate made of it"
        )


def sketch(network: Network) -> Network:
    """Return a copy on PyTorch's meta device: shapes without values, and without their memory.

    Run it under `torch.device("meta")`, for the constants that it may make on its way.
    """
    memo: dict[int, Any] = {}
    for tensor in _tensors(network):
        there = tensor.detach().to("meta")
        if isinstance(tensor, nn.Parameter):
            there = nn.Parameter(there, requires_grad=False)
        memo[id(tensor)] = there
    return copy.deepcopy(network, memo)


def shell(network: Network) -> Network:
    """Return a copy that shares all tensors: what tracing does to attributes stays there."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in _tensors(network)})


def _tensors(network: nn.Module) -> Iterator[torch.Tensor]:
    """Give parameters, buffers, and what modules hold as plain attributes."""
    yield from network.parameters()
    yield from network.buffers()
    for module in network.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Run a network as it is used, not as it is trained; every module's mode comes back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def device_of(network: nn.Module) -> torch.device:
    """Return where a network is: where its first parameter or buffer is, or else the CPU.

    Networks in integers may have no parameters.
    """
    tensor = next(chain(network.parameters(), network.buffers()), None)
    return tensor.device if tensor is not None else torch.device("cpu")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether any of the name patterns (fnmatch) matches."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
