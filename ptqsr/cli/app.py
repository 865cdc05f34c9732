"""The commands, put together."""

from __future__ import annotations

import typer

import ptqsr
from ptqsr.cli.calibrate import calibrate
from ptqsr.cli.evaluate import evaluate
from ptqsr.cli.info import info
from ptqsr.cli.output import one_line_errors
from ptqsr.cli.train import train

app = typer.Typer(
    name="ptqsr",
    help="Post-training quantization of image super-resolution networks.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (calibrate, evaluate, train, info):
    app.command()(one_line_errors(command))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(ptqsr.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True),
) -> None:
    pass
