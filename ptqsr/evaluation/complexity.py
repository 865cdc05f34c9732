"""What a network costs: multiply-accumulates, BitOPs, storage, feature bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean

from torch import nn

from ptqsr.evaluation.macs import macs
from ptqsr.models import PatchWise, SRNetwork, matches
from ptqsr.modules import FakeQuantConv2d, in_body, owner, placed
from ptqsr.quantizers import FEW_BITS, ActivationQuantizer, OffsetQuantizer, SelectedQuantizer

FLOAT_BITS = 32
# The output size for which the field states BitOPs (ODM, Table 4).
OUTPUT_HEIGHT, OUTPUT_WIDTH = 1080, 1920
OUTPUT_SIZE = f"{OUTPUT_WIDTH}x{OUTPUT_HEIGHT}"


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer: its multiply-accumulates over all calls, its bit-widths.

    `listed`: whether it is one of those that the papers quantize; `in_fqr`: whether its input's
    bits count there: those of the body alone, not of the edges (`Config(edges=8)`). Bits are
    means where the layer chooses them.
    """

    name: str
    macs: int
    weight_bits: float
    act_bits: float
    listed: bool = True
    in_fqr: bool = True

    @property
    def quantized(self) -> bool:
        return self.act_bits < FLOAT_BITS

    @property
    def bitops(self) -> float:
        """2 * MACs * weight bits * activation bits, as PAMS and ODM count."""
        return 2 * self.macs * self.weight_bits * self.act_bits


@dataclass(frozen=True)
class Cost:
    """Of a whole network for one output picture.

    `storage` is in units of float32 parameters, weighted by bits / 32, as ODM's Table 4 has it,
    with its offsets, and with CADyQ's selectors; `storage_bytes` counts all that a deployed network
    must keep: also steps, zero points, points and flags. `fqr` is the mean bit-width of the inputs
    of the body's quantized convolutions (32 where none is). The papers, which keep the edges in
    floating point, leave them out of it, and so does this: at a constant 8 bits they would only
    blur the comparison.
    """

    layers: tuple[LayerCost, ...]
    storage: float
    storage_bytes: int

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def bitops(self) -> float:
        return sum(layer.bitops for layer in self.layers)

    @property
    def listed_bitops(self) -> float:
        """Of the convolutions that the papers quantize, in units of 32 x 32 bits.

        CADyQ's Table 5 counts so, at 1280x720.
        """
        return sum(layer.bitops for layer in self.layers if layer.listed) / FLOAT_BITS**2

    @property
    def fqr(self) -> float:
        bits = [layer.act_bits for layer in self.layers if layer.quantized and layer.in_fqr]
        return sum(bits) / len(bits) if bits else float(FLOAT_BITS)


def cost(
    network: SRNetwork,
    *,
    height: int = OUTPUT_HEIGHT,
    width: int = OUTPUT_WIDTH,
    chosen: Mapping[str, Sequence[int]] | None = None,
) -> Cost:
    """Return the cost of a network for an output of height x width pixels.

    `chosen`: the bits of every sample, by name of the layers that choose them (`recording_bits`);
    without it they count as the most that there are.

    Only shapes are computed, where the network runs without values (`macs`).
    """
    include = network.calibration.include if network.calibration else ()
    size = ceil(height / network.scale), ceil(width / network.scale)
    layers = []
    for convolution, work in macs(network, *size).items():
        name, layer = owner(network, convolution), network.get_submodule(convolution)
        listed = matches(name, network.quantized_layers)
        counts = in_body(network, name, include) and not matches(name, network.outside_fqr)
        bits = _bit_widths(layer, (chosen or {}).get(name, ()))
        layers.append(LayerCost(name, work, *bits, listed, counts))
    return Cost(tuple(layers), sum(_parameters(network)), ceil(sum(_bits(network)) / 8))


def bitops_of(spent: Cost, running: SRNetwork) -> float:
    """Return the BitOPs of a network, by patches with what overlaps as often as it is computed."""
    if not isinstance(running, PatchWise):
        return spent.bitops
    height, width = (ceil(n / running.scale) for n in (OUTPUT_HEIGHT, OUTPUT_WIDTH))
    return spent.bitops * running.computed(height, width)


def _bit_widths(layer: nn.Module, chosen: Sequence[int]) -> tuple[float, float]:
    """Return a layer's bits of weights and activations; `chosen`: those of samples, if it chooses.

    Activations' are the mean; weights' are such that the product is the mean of products.
    """
    if not isinstance(layer, FakeQuantConv2d):
        return FLOAT_BITS, FLOAT_BITS
    quantizer = layer.quantizer
    if not isinstance(quantizer, SelectedQuantizer) or not chosen:
        return layer.weight_bits, layer.act_bits
    products = [
        bits * (FEW_BITS if quantizer.few(quantizer.candidates.index(bits)) else layer.weight_bits)
        for bits in chosen
    ]
    return sum(products) / sum(chosen), fmean(chosen)


def _quantized(network: nn.Module) -> Iterator[FakeQuantConv2d]:
    return (layer for layer in network.modules() if isinstance(layer, FakeQuantConv2d))


def _parameters(network: nn.Module) -> Iterator[float]:
    yield sum(p.numel() for p in network.parameters())
    for layer in _quantized(network):
        yield layer.weight.numel() * layer.weight_bits / FLOAT_BITS
    for quantizer in _quantizers(network):
        if isinstance(quantizer, OffsetQuantizer):
            yield quantizer.offset_bits / FLOAT_BITS
        elif isinstance(quantizer, SelectedQuantizer):
            yield quantizer.weight.numel() + quantizer.bias.numel()


def _bits(network: nn.Module) -> Iterator[int]:
    yield FLOAT_BITS * sum(p.numel() for p in network.parameters())
    for layer in _quantized(network):
        # A step in float32 and a zero point in 16 bits for every output channel.
        yield layer.weight.numel() * layer.weight_bits + layer.out_channels * (FLOAT_BITS + 16)
    for quantizer in _quantizers(network):
        yield quantizer.storage_bits()


def _quantizers(network: nn.Module) -> Iterable[ActivationQuantizer]:
    """Return the activation quantizers, each once."""
    found: dict[ActivationQuantizer, None] = {}
    for layer in _quantized(network):
        found |= dict.fromkeys(layer.quantizer.parts)
    for _, _, elsewhere in placed(network):
        assert isinstance(elsewhere, ActivationQuantizer)
        found[elsewhere] = None
    return found
