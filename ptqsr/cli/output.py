"""How commands speak: tables, progress, JSON, and errors of one line."""

from __future__ import annotations

import errno
import functools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ptqsr.errors import PtqsrError, is_out_of_memory, on_gpu
from ptqsr.files import check_writable, replacing

P = ParamSpec("P")
R = TypeVar("R")

JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the figures as JSON; - is standard output."),
]

# File names are shown as they are: brackets in them are no markup, colons no emoji.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
stderr = Console(stderr=True, **PLAIN)


class Warnings(logging.Handler):
    """Warnings as lines on standard error, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr.print(f"ptqsr: warning: {record.getMessage()}", soft_wrap=True)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a user's mistakes into one line and exit code 2, Ctrl-C into exit code 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        logger = logging.getLogger("ptqsr")
        if not any(isinstance(handler, Warnings) for handler in logger.handlers):
            logger.addHandler(Warnings())
        try:
            return command(*args, **kwargs)
        except PtqsrError as error:
            message, code = str(error), 2
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read the output has left; typer ends quietly
            where = "" if error.filename is None else f"{error.filename}: "
            message, code = f"{where}{error.strerror or error}", 2
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            message, code = "out of memory; use smaller pictures, or fewer", 2
            if on_gpu(error):
                message = "out of memory on the GPU; use smaller pictures, or --device cpu"
        except KeyboardInterrupt:
            message, code = "interrupted; no unfinished file is left", 130
        print(f"ptqsr: {' '.join(message.split())}", file=sys.stderr)
        raise typer.Exit(code)

    return run


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows (what, done, total), a bar for each `what`, on standard error."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,  # it would leave an empty line in a log file
    ) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield show


def check_json(json_file: str | None) -> None:
    """Raise PtqsrError where `report` could not write the figures."""
    if json_file not in (None, "-"):
        check_writable(json_file)


def report(table: RenderableType, figures: Any, json_file: str | None) -> None:
    """Print a table and write the figures where asked: to `-` they alone go to standard output."""
    show(table, stderr if json_file == "-" else Console(**PLAIN))
    write_json(figures, json_file)


def show(table: RenderableType, console: Console = stderr) -> None:
    """Print a table, by default on standard error."""
    if not console.is_terminal:
        console.width = 160  # no terminal to fit: do not cut the table
    console.print(table)


def write_json(figures: Any, json_file: str | None) -> None:
    """Write the figures where asked, if anywhere."""
    if json_file is None:
        return
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
        return
    with replacing(Path(json_file)) as temporary:
        temporary.write_text(text, encoding="utf-8")
