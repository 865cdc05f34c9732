"""A training run on the command line: `train` and `finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from ptqsr.cli.output import progress_bar, report, stderr
from ptqsr.errors import PtqsrError
from ptqsr.training import Trainer, processes
from ptqsr.training.state import STATE

# Pictures to set aside, where nobody says: so many, or of few this part.
SET_ASIDE, PART = 10, 5


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; give this one's device.

    The first alone speaks.
    """
    with processes.joined(device) as place:
        stderr.quiet = processes.rank() > 0
        try:
            yield place
        finally:
            stderr.quiet = False


def check_run(output: Path, resume: bool) -> None:
    """Raise PtqsrError where a folder holds a run and is not to, or is to and does not exist."""
    if (output / STATE).exists() and not resume:
        raise PtqsrError(f"{output}: holds a run already; go on with --resume or name another")
    if resume and not output.is_dir():
        raise PtqsrError(f"{output}: no such folder; there is nothing to resume")


def resumed(trainer: Trainer) -> None:
    """Go on with the run in the trainer's folder, if any was saved there."""
    saved = (trainer.run / STATE).exists()
    processes.check_agreed(saved, f"{trainer.run / STATE}: how many there are", trainer.device)
    if saved:
        trainer.resume()
    else:
        stderr.print(f"{trainer.run}: nothing was saved yet; begins at step 0", soft_wrap=True)


def set_aside(asked: int | None, paths: list[Path]) -> int:
    """Return how many pictures are kept apart to validate on."""
    return min(SET_ASIDE, len(paths) // PART) if asked is None else asked


def carry_out(trainer: Trainer, title: str, figures: dict[str, Any], json_file: str | None) -> None:
    """Train, say how it goes, and report `figures` with those of the log's last record."""
    small = len(trainer.sampler.too_small)
    stderr.print(
        f"{len(trainer.sampler.pairs)} pictures to train on"
        + (f" ({small} smaller than a patch left out)" if small else "")
        + f", {len(trainer.validation)} to validate on; arithmetic: {trainer.arithmetic.text}",
        soft_wrap=True,
    )
    figures = {**figures, "pictures": len(trainer.sampler.pairs), "step": trainer.step}
    steps = trainer.config.steps
    with progress_bar() as show:

        def note(record: dict[str, Any]) -> None:
            figures.update(record)
            show("steps", record["step"], steps)
            if "validation_psnr" in record:
                stderr.print(
                    f"step {record['step']}: loss {record['loss']:.3f} grey levels, validation "
                    f"{record['validation_psnr']:.3f} dB, {record['seconds']:.0f} s"
                )

        show("steps", trainer.step, steps)
        trainer.train(note, show)
    if processes.rank():
        return
    table = Table(title=title, show_header=False)
    for name, value in figures.items():
        table.add_row(
            name.replace("_", " "), f"{value:.6g}" if isinstance(value, float) else f"{value}"
        )
    report(table, figures, json_file)
