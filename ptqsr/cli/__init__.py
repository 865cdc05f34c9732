"""The command line."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the console script `ptqsr`."""
    from ptqsr.cli.app import app

    app()
