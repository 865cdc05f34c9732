"""Which convolutions are quantized, and swapping them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ptqsr.errors import PtqsrError
from ptqsr.models import SRNetwork, matches
from ptqsr.modules.fake import FakeQuantConv2d


def in_body(network: SRNetwork, name: str, include: tuple[str, ...] = ()) -> bool:
    """Return whether a convolution belongs to the body: on the network's own list, or included.

    The body has the bits that were asked for; all other convolutions are edges.
    """
    return matches(name, (*network.quantized_layers, *include))


def quantizable(
    network: SRNetwork,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    *,
    edges: bool = False,
) -> dict[str, nn.Conv2d]:
    """Return the convolutions to quantize, by name; one that is used twice stands once.

    Those on the network's own list less the excluded, plus the included; with `edges` all others
    too but the excluded and the gates. Raises PtqsrError for a pattern that matches none, or where
    nothing is left.
    """
    convs = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}

    def matching(patterns: tuple[str, ...]) -> set[str]:
        found: set[str] = set()
        for pattern in patterns:
            names = {name for name in convs if matches(name, (pattern,))}
            if not names:
                raise PtqsrError(
                    f"pattern {pattern!r} matches none of the convolutions "
                    f"({', '.join(list(convs)[:4])}, ...)"
                )
            found |= names
        return found

    listed = {name for name in convs if in_body(network, name)}
    if edges:
        listed |= {name for name in convs if not matches(name, network.gates)}
    chosen = (listed - matching(exclude)) | matching(include)
    if not chosen:
        raise PtqsrError("no convolution is left to quantize; name some with --include")
    for name in chosen:
        kind = type(convs[name])
        if kind.forward not in (nn.Conv2d.forward, FakeQuantConv2d.forward):
            raise PtqsrError(
                f"layer {name}: {kind.__name__} computes something else than nn.Conv2d; exclude it"
            )
    return {name: conv for name, conv in convs.items() if name in chosen}


def replace(network: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in the places of others, wherever these occur, in place."""
    for parent in list(network.modules()):
        # _modules, not named_children(): the latter names a module that occurs twice only once.
        for name, child in parent._modules.items():
            if child is not None and child in swaps:
                parent._modules[name] = swaps[child]
