"""The command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the console script `ptqsr`."""
    try:
        from ptqsr.cli.app import app  # imports PyTorch, which takes seconds

        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except KeyboardInterrupt:
        print("ptqsr: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        # Usage errors: typer has no public class for them, and would print a box of lines.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        command = f"{context.info_name} " if context is not None and context.parent else ""
        text = " ".join(message().split())
        print(f"ptqsr: {text} (see ptqsr {command}--help)", file=sys.stderr)
        raise SystemExit(2) from None
