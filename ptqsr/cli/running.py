"""A training run on the command line: `train` and `finetune`."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ptqsr.cli.output import progress_bar, report, stderr
from ptqsr.training import Trainer, processes


def carry_out(trainer: Trainer, title: str, figures: dict[str, Any], json_file: str | None) -> None:
    """Train, say how it goes, and report `figures` with those of the log's last record.

    Of several processes the first alone speaks.
    """
    small = len(trainer.sampler.too_small)
    stderr.print(
        f"{len(trainer.sampler.pairs)} pictures to train on"
        + (f" ({small} smaller than a patch left out)" if small else "")
        + f", {len(trainer.validation)} to validate on; arithmetic: {trainer.precision}",
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
        trainer.train(note)
    if processes.rank():
        return
    table = Table(title=title, show_header=False)
    for name, value in figures.items():
        table.add_row(
            name.replace("_", " "), f"{value:.6g}" if isinstance(value, float) else f"{value}"
        )
    report(table, figures, json_file)
