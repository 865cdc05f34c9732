"""What options of `ptqsr calibrate` and its like go together, and where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptqsr import checkpoint
from ptqsr.cli.mixing import Limit
from ptqsr.config import Config
from ptqsr.errors import PtqsrError
from ptqsr.files import check_writable
from ptqsr.models import SRNetwork

ITERATIONS = 1000


def check_method(
    method: str,
    selector: str | None,
    universal_set: str | None,
    percentile: float,
    reconstruct: bool = False,
    iterations: int = ITERATIONS,
) -> None:
    """Raise PtqsrError where an option is given that the method does not have."""
    for option, value, default, needs in (
        ("--selector", selector, None, ("dfsq", "dfsq+")),
        ("--universal-set", universal_set, None, ("dfsq", "dfsq+")),
        ("--percentile", percentile, 1.0, ("percentile",)),
        ("--reconstruct", reconstruct, False, ("dfsq+",)),
        ("--iterations", iterations, ITERATIONS, ("brecq", "qdrop", "dfsq+")),
    ):
        if value != default and method not in needs:
            said = option if value is True else f"{option} {value}"
            learns = " with --reconstruct" if option == "--iterations" else ""
            methods = " or ".join(needs) + learns
            raise PtqsrError(f"{said}: is for --method {methods}, not {method}")
    if iterations != ITERATIONS and method == "dfsq+" and not reconstruct:
        raise PtqsrError(f"--iterations {iterations}: goes with --reconstruct")


def check_bits_chosen(
    limit: Limit,
    plan: Path | None,
    bits: dict[str, Any],
    patterns: dict[str, Any],
    choosing: dict[str, Any],
) -> None:
    """Raise PtqsrError where options say in two ways which layers have how many bits.

    Options by their names: the same `bits` for all, layers by name `patterns`, and how bits are
    chosen under the limit.
    """
    limited = {} if limit.option is None else {limit.option: True}
    alone("--plan", plan, {**bits, **patterns, **limited})
    if limit.option:
        alone(limit.option, True, bits)
    elif option := _given(choosing):
        raise PtqsrError(f"{option}: goes with --target-bits or --max-drop")
    alone("--sensitivity", choosing["--sensitivity"], {"--candidates": choosing["--candidates"]})


def alone(option: str, value: object, others: dict[str, Any]) -> None:
    """Raise PtqsrError where an option is given with one that it takes the place of."""
    if value is not None and (other := _given(others)):
        raise PtqsrError(f"{option}: says what {other} would; leave that out")


def _given(options: dict[str, Any]) -> str | None:
    """Return the first option that was given."""
    return next((option for option, value in options.items() if value is not None), None)


def default_output(network: SRNetwork, config: Config, *, mixed: bool) -> Path:
    """Return a name that says network, method and bits; `mixed`: these differ by layer."""
    recipe = f"{config.method}_reconstructed" if config.reconstruct else config.method
    widths = "mixed" if mixed else f"w{config.weight_bits}a{config.act_bits}"
    edges = "" if config.edges is None else f"_edges{config.edges}"
    return Path(f"{network.title.lower()}_x{network.scale}_{recipe}_{widths}{edges}.safetensors")


def check_output(output: Path) -> None:
    """Say before the work that its result has no place, or the place of something else."""
    check_writable(output)
    if output.suffix != ".safetensors":
        raise PtqsrError(f"{output}: checkpoints are safetensors; name one with that ending")
    if output.exists() and not checkpoint.is_checkpoint(output):
        raise PtqsrError(f"{output}: exists and is no checkpoint of ptqsr; name another with -o")
