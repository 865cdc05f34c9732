"""The tables of `ptqsr benchmark`."""

from __future__ import annotations

from rich.table import Table

from ptqsr.benchmarking import Record, Step

Measured = tuple[str, str, list[Record]]  # network, its title, its records


def step_table(title: str, rows: list[Step]) -> Table:
    table = Table(
        title=f"{title}: {rows[0].candidate}, step by step",
        caption="ms of all of a kind; TOP/s: 2 a multiply-accumulate; GB/s: what goes in and out",
    )
    table.add_column("operation")
    table.add_column("shape", overflow="fold")
    for column in ("count", "ms", "share", "TOP/s", "GB/s"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.operation,
            row.shape,
            str(row.count),
            f"{row.ms:.3f}",
            f"{row.share:.1%}",
            "" if row.tops is None else f"{row.tops:.3g}",
            f"{row.gigabytes_per_second:.3g}",
        )
    return table


def table_of(groups: list[Measured], rounds: int, on_gpu: bool) -> Table:
    ratio = "the first's" if on_gpu else "float32's"
    memory = (
        "all that PyTorch holds at most, weights too; agreement: how far the output's difference "
        "to float32's, of deployed to the simulated one's, is below its variance"
        if on_gpu
        else "what one inference adds at most to the loaded network"
    )
    table = Table(
        caption=f"{rounds} interleaved rounds: median and quartiles; ratio: time over {ratio}, "
        f"round by round; memory: {memory}"
    )
    table.add_column("network")
    if not on_gpu:
        table.add_column("threads", justify="right")
    table.add_column("candidate", overflow="fold")
    for title in ("ms", "quartiles", "ratio", "memory, MiB", *(["agreement"] if on_gpu else [])):
        table.add_column(title, justify="right")
    for _, title, records in groups:
        for record in records:
            threads = () if on_gpu else (str(record.threads),)
            table.add_row(title, *threads, *_cells(record))
            title = ""
        table.add_section()
    return table


def _cells(record: Record) -> tuple[str, ...]:
    timing = record.timing
    if timing is None:
        return (f"{record.candidate}: not available ({record.unavailable})",)
    peak = record.peak_bytes
    agreement = "" if record.agreement_db is None else f"{record.agreement_db:.1f} dB"
    return (
        record.candidate,
        f"{timing.median_ms:.2f}",
        f"{timing.low_ms:.2f} - {timing.high_ms:.2f}",
        f"{timing.ratio:.3f}",
        f"({record.memory_unavailable})" if peak is None else f"{peak / 2**20:.1f}",
        *(() if record.device == "cpu" else (agreement,)),
    )
