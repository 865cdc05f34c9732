"""Measuring: pictures in pairs, PSNR and SSIM, BitOPs and storage."""

from ptqsr.evaluation.bit_map import PatchBits, draw_bits, patch_bits
from ptqsr.evaluation.chosen import ChosenBits, fewest_and_most, mean_bits, recording_bits
from ptqsr.evaluation.complexity import OUTPUT_SIZE, Cost, LayerCost, bitops_of, cost
from ptqsr.evaluation.data import Pair, find_pairs, read_pairs
from ptqsr.evaluation.quality import EvaluationResult, ImageResult, evaluate, measure

__all__ = [
    "OUTPUT_SIZE",
    "ChosenBits",
    "Cost",
    "EvaluationResult",
    "ImageResult",
    "LayerCost",
    "Pair",
    "PatchBits",
    "bitops_of",
    "cost",
    "draw_bits",
    "evaluate",
    "fewest_and_most",
    "find_pairs",
    "mean_bits",
    "measure",
    "patch_bits",
    "read_pairs",
    "recording_bits",
]
