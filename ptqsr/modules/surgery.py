"""Which layers are quantized, and swapping them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, matches
from ptqsr.models.flow import Place, unfit
from ptqsr.modules.fake import FakeQuantConv2d


def in_body(network: SRNetwork, name: str, include: tuple[str, ...] = ()) -> bool:
    """Return whether a layer belongs to the body: on the network's own list, or included.

    The body has the bits that were asked for; all other layers are edges.
    """
    return matches(name, (*network.quantized_layers, *include))


def quantizable(
    network: SRNetwork,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    *,
    edges: bool = False,
) -> dict[str, nn.Module]:
    """Return the layers to quantize, by name; one that is used twice stands once.

    Convolutions, transposed ones and linear layers: those of the body less the excluded, plus the
    included; with `edges` the convolutions at the edges too, less the excluded. Raises PtqsrError
    for a pattern that matches none, for a layer that cannot be quantized, or where nothing is left.
    """
    places = network.places()

    def matching(patterns: tuple[str, ...]) -> set[str]:
        found: set[str] = set()
        for pattern in patterns:
            names = {name for name in places if matches(name, (pattern,))}
            if not names:
                raise PtqsrError(
                    f"pattern {pattern!r} matches none of the layers "
                    f"({', '.join(list(places)[:4])}, ...)"
                )
            found |= names
        return found

    wanted = ("body", "edge") if edges else ("body",)
    listed = {name for name, place in places.items() if place.part in wanted}
    chosen = (listed - matching(exclude)) | matching(include)
    if not chosen:
        never = [
            f" ({name or 'the network'}: {p.why})"
            for name, p in places.items()
            if p.part == "never"
        ]
        raise PtqsrError(
            "no layer is left to quantize; name some (--include, Config(include=...))"
            + "".join(never[:1])
        )
    layers = {name: network.get_submodule(name) for name in places if name in chosen}
    for name, layer in layers.items():
        check_quantizable(name, layer, places[name])
    return layers


def check_quantizable(name: str, layer: nn.Module, place: Place) -> None:
    """Raise PtqsrError, with the reason, for a layer of the float network that cannot be."""
    if any(isinstance(module, FakeQuantConv2d) for module in layer.modules()):
        raise PtqsrError(f"layer {name}: is quantized already; take the float network")
    why = place.why if place.part == "never" else unfit(layer)
    if why:
        raise PtqsrError(f"layer {name}: cannot be quantized: {why}; exclude it")


def replace(network: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in the places of others, wherever these occur, in place."""
    for parent in list(network.modules()):
        # _modules, not named_children(): the latter names a module that occurs twice only once.
        for name, child in parent._modules.items():
            if child is not None and child in swaps:
                parent._modules[name] = swaps[child]
