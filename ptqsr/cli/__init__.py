"""The command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the console script `ptqsr`."""
    try:
        from ptqsr.cli.app import app  # imports PyTorch, which takes seconds

        app()
    except KeyboardInterrupt:
        print("ptqsr: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
