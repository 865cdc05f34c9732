"""How commands speak: tables, progress, JSON, and errors of one line."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ptqsr.errors import PtqsrError
from ptqsr.files import replacing

P = ParamSpec("P")
R = TypeVar("R")

JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the figures as JSON; - is standard output."),
]

stderr = Console(stderr=True)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a user's mistakes into one line and exit code 2, Ctrl-C into exit code 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        handler = RichHandler(console=stderr, show_time=False, show_path=False, show_level=False)
        logging.basicConfig(format="%(message)s", handlers=[handler])
        try:
            return command(*args, **kwargs)
        except PtqsrError as error:
            print(f"ptqsr: {' '.join(str(error).split())}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("ptqsr: interrupted; nothing was written", file=sys.stderr)
            raise typer.Exit(130) from None

    return run


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows (what, done, total), a bar for each `what`, on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=stderr, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield show


def report(table: Table, figures: Any, json_file: str | None) -> None:
    """Print a table and write the figures where asked: to `-` they alone go to standard output."""
    console = stderr if json_file == "-" else Console()
    if not console.is_terminal:
        console.width = 160  # no terminal to fit: do not cut the table
    console.print(table)
    if json_file is None:
        return
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
        return
    with replacing(Path(json_file)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def bitops(value: float) -> str:
    """Return 215.1T or 76.44G."""
    for unit, letter in ((1e12, "T"), (1e9, "G")):
        if value >= unit:
            return f"{value / unit:.4g}{letter}"
    return f"{value / 1e6:.4g}M"


def parameters(value: float) -> str:
    """Return 1517.6K."""
    return f"{value / 1e3:.1f}K"
