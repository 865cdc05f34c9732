"""Measuring: pictures in pairs, PSNR and SSIM, BitOPs and storage."""

from ptqsr.evaluation.complexity import OUTPUT_SIZE, Cost, LayerCost, cost
from ptqsr.evaluation.data import Pair, find_pairs, read_pairs
from ptqsr.evaluation.quality import EvaluationResult, ImageResult, evaluate

__all__ = [
    "OUTPUT_SIZE",
    "Cost",
    "EvaluationResult",
    "ImageResult",
    "LayerCost",
    "Pair",
    "cost",
    "evaluate",
    "find_pairs",
    "read_pairs",
]
