"""Convolutions and quantizers with parameters, and how they become those of a finished network."""

from ptqsr.training.trainable.activations import (
    MaxScaleQuantizer,
    MovingRangeQuantizer,
    TrainableQuantizer,
)
from ptqsr.training.trainable.clipped import ClippedQuantizer
from ptqsr.training.trainable.functions import quantize_within, rounded
from ptqsr.training.trainable.layer import (
    TrainableConv2d,
    freeze,
    layers_of,
    make_trainable,
    quantizers_of,
)
from ptqsr.training.trainable.selected import SelectingQuantizer, Selector, select
from ptqsr.training.trainable.weights import (
    MaxWeights,
    MinMaxWeights,
    PercentileWeights,
    TanhWeights,
    WeightGrid,
)

__all__ = [
    "ClippedQuantizer",
    "MaxScaleQuantizer",
    "MaxWeights",
    "MinMaxWeights",
    "MovingRangeQuantizer",
    "PercentileWeights",
    "SelectingQuantizer",
    "Selector",
    "TanhWeights",
    "TrainableConv2d",
    "TrainableQuantizer",
    "WeightGrid",
    "freeze",
    "layers_of",
    "make_trainable",
    "quantize_within",
    "quantizers_of",
    "rounded",
    "select",
]
