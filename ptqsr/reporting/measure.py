"""Everything that a report shows of one network, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ptqsr.evaluation import Cost, EvaluationResult, bitops_of, cost, evaluate, recording_bits
from ptqsr.evaluation.quality import NamedPair
from ptqsr.quantizers import choosers
from ptqsr.reporting.bits import BitMap, bit_maps
from ptqsr.reporting.distributions import Distribution, Distributions, Usage, usage
from ptqsr.reporting.latency import Latency, latency
from ptqsr.reporting.noise import LayerNoise, NoiseMeter
from ptqsr.reporting.pictures import Pictures
from ptqsr.reporting.sensitivity import Sensitivities, sensitivities
from ptqsr.reporting.subject import Subject
from ptqsr.reporting.walk import Meeting, walk
from ptqsr.reporting.weights import Weights, weights_of
from ptqsr.sensitivity import as_inputs

# Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Measured:
    """One network's figures; those of layers by name, in the order in which they run.

    `macs` are shares of the work of all convolutions and linear layers; `usage`: of the universal
    set.
    """

    subject: Subject
    before: EvaluationResult
    after: EvaluationResult
    cost_before: Cost
    cost_after: Cost
    bitops_after: float
    latency: Latency | None
    noise: dict[str, LayerNoise]
    sensitivities: Sensitivities
    distributions: dict[str, Distribution]
    weights: dict[str, Weights]
    macs: dict[str, float]
    usage: Usage | None
    bit_maps: list[BitMap]

    @property
    def drop(self) -> float:
        """What quantization costs in PSNR, dB."""
        return self.before.psnr - self.after.psnr

    @property
    def ranking(self) -> list[str]:
        """The layers, that which costs most first."""
        return sorted(self.noise, key=lambda name: -self.sensitivities.layers[name].mse)


def measure(
    subject: Subject,
    pictures: Pictures,
    crops: list[NamedPair],
    *,
    with_latency: bool = True,
    progress: Progress = lambda what, done, total: None,
) -> Measured:
    """Measure PSNR and SSIM on the pictures, and everything about layers on the crops."""
    show = partial(progress, f"{subject.title}: PSNR")
    before = evaluate(subject.floating, pictures.measured)
    running = subject.running
    with recording_bits(running) as chosen:
        after = evaluate(running, pictures.measured, progress=show)
    spent = cost(subject.quantized, chosen=chosen)
    noise, distributions = NoiseMeter(), Distributions()

    def meet(met: Meeting) -> None:
        noise.update(met)
        distributions.update(met)

    for done, (_, lr, _) in enumerate(crops, 1):
        distributions.begin_sample()
        walk(subject, as_inputs(subject.floating, [lr]), meet)
        progress(f"{subject.title}: layers", done, len(crops))
    found = sensitivities(subject, crops, partial(progress, f"{subject.title}: one by one"))
    in_order = noise.found()
    work = {layer.name: layer.macs / spent.macs for layer in spent.layers}
    return Measured(
        subject=subject,
        before=before,
        after=after,
        cost_before=cost(subject.floating),
        cost_after=spent,
        bitops_after=bitops_of(spent, running),
        latency=latency(subject) if with_latency else None,
        noise=in_order,
        sensitivities=found,
        distributions=distributions.found(),
        weights={
            name: weights_of(subject.fake(name), subject.original(name).weight) for name in in_order
        },
        macs={name: work[name] for name in in_order},
        usage=usage([subject.fake(name).quantizer for name in in_order]),
        bit_maps=bit_maps(running, pictures.shown) if choosers(running) else [],
    )
