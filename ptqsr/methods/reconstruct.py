"""Block reconstruction (BRECQ: Li et al., ICLR 2021): weights rounded so that blocks' outputs stay.

Block after block, in the order in which they run: what goes in is what the network quantized so far
gives, what should come out is what the float network's block makes of its own input.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import torch

from ptqsr.methods.cache import Cache
from ptqsr.methods.learning import Learning
from ptqsr.methods.records import BlockRecord, Options
from ptqsr.methods.samples import collect, turned
from ptqsr.methods.soft import SoftBlock
from ptqsr.methods.units import calls
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d
from ptqsr.quantizers import NearestRounding, SoftRounding

log = logging.getLogger("ptqsr")


@torch.inference_mode(False)
def reconstruct(
    network: SRNetwork,
    model: SRNetwork,
    blocks: Mapping[str, Sequence[str]],
    latents: Mapping[str, torch.Tensor],
    pictures: Iterable[torch.Tensor],
    held_out: Iterable[torch.Tensor],
    options: Options,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[BlockRecord]:
    """Learn how a fake-quantized network's weights are rounded, in place.

    `model`: the same network in floating point. `blocks`: modules by name, and the quantized layers
    in each. `latents`: every layer's weight in units of its step, float32, as it was before it was
    rounded to nearest. `pictures`: to learn from, turned and mirrored too; `held_out`: by which
    blocks are measured and stop; both one by one, [1, C, H, W], gone through once for every block.
    """
    records = []
    learned_steps = list(options.learned_steps)
    with torch.no_grad():
        order = calls(model, blocks, next(iter(pictures)))
    total = len(order) * options.iterations
    for number, (name, times) in enumerate(order.items()):

        def show(iteration: int, before: int = number * options.iterations) -> None:
            progress(before + iteration, total)

        show(0)
        block = SoftBlock(
            network,
            name,
            blocks[name],
            latents,
            NearestRounding if options.from_levels else SoftRounding,
            affine=options.from_levels,
            learned_steps=learned_steps,
        )
        with Cache() as cache:
            see = partial(collect, cache, network, model, name, times)
            training = see((t for x in pictures for t in turned(x)), with_float=options.drop > 0)
            apart = see(held_out, with_float=False)
            records.append(Learning(name, number, block, training, apart, options).run(model, show))
        # The step of a tensor that several blocks read is learned in the first of them.
        learned_steps = [n for n in learned_steps if not _reads(network, n, block)]
        _report(records[-1])
    progress(total, total)
    return records


def _reads(network: SRNetwork, layer: str, block: SoftBlock) -> bool:
    module = network.get_submodule(layer)
    return isinstance(module, FakeQuantConv2d) and module.quantizer in block.steps


def _report(record: BlockRecord) -> None:
    log.info("reconstruction: %s", json.dumps(asdict(record)))
    end, nearest = record.end.held_out, record.nearest.held_out
    if end >= nearest and end > 0:
        log.warning(
            f"block {record.block}: its error on held-out pictures is {end:.3g}, by rounding to "
            f"nearest {nearest:.3g}; give more calibration pictures or more iterations"
        )
