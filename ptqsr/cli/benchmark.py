"""`ptqsr benchmark`: how long networks take, and how much memory."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ptqsr.benchmarking import Record, check_chart, machine, measure, task_of, write_chart
from ptqsr.cli.networks import Scale, open_or_build
from ptqsr.cli.output import JsonFile, check_json, progress_bar, report, stderr
from ptqsr.errors import PtqsrError

LARGEST = 16384  # of a side, and of --batch
Group = tuple[str, str, list[Record]]  # network, its title, its records


def benchmark(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT_OR_NAME...",
            help="Checkpoints of `ptqsr calibrate`, or for float32 alone weight files and names as "
            "edsr_x4 or rdn_x2.",
        ),
    ],
    size: Annotated[
        list[str] | None,
        typer.Option(help="Height x width of the input, as 180x320 (the default); repeatable."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures in one inference.")] = 1,
    threads: Annotated[str, typer.Option(help="As 1 or 1,2.")] = "1",
    device: Annotated[str, typer.Option(help="cpu.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="Inferences of each candidate, 3 or more.")] = 10,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers", help="Other runtimes too: int8 of PyTorch, ONNX Runtime, OpenVINO."
        ),
    ] = False,
    memory: Annotated[bool, typer.Option(help="Measure peak memory, in processes.")] = True,
    scale: Scale = None,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help='Draw a bar chart; needs "ptqsr\\[chart]".'),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Time networks in float32, fake-quantized and deployed, in turn, and weigh them.

    float32 has random weights, which do not change its latency: a checkpoint does not hold those
    before quantization. Int8 of the other runtimes is for its latency alone: it is calibrated on
    random inputs. They quantize the layers that the checkpoint does, or every layer.
    """
    check_json(json_file)
    if chart is not None:
        check_chart(chart)
    if device != "cpu":
        raise PtqsrError(f"--device {device}: benchmark runs on the cpu alone")
    if rounds < 3:
        raise PtqsrError(f"--rounds {rounds}: must be at least 3")
    if not 1 <= batch <= LARGEST:
        raise PtqsrError(f"--batch {batch}: must be 1 to {LARGEST}")
    sizes = [_size(text) for text in size or ["180x320"]]
    numbers = _threads(threads)
    opened = [(name, open_or_build(name, scale)) for name in networks]
    groups: list[Group] = []
    with progress_bar() as show:
        for name, network in opened:
            if network.calibration is None:
                stderr.print(
                    f"{name}: a float network, timed in float32 alone; `ptqsr calibrate` makes the "
                    "checkpoint that is timed fake-quantized and deployed too",
                    soft_wrap=True,
                )
            for height, width in sizes:
                records = measure(
                    task_of(network, name, height, width, batch),
                    numbers,
                    rounds=rounds,
                    with_peers=peers,
                    with_memory=memory,
                    progress=partial(_prefixed, show, Path(name).name),
                )
                picture = f"{height}x{width}" + (f", batch {batch}" if batch > 1 else "")
                groups.append((name, f"{Path(name).name}, {picture}", records))
    if chart is not None:
        write_chart([(title, records) for _, title, records in groups], chart)
    figures = {
        "machine": machine(),
        "device": device,
        "rounds": rounds,
        "records": [
            {"network": name, **record.to_json()} for name, _, group in groups for record in group
        ],
    }
    report(_table(groups, rounds), figures, json_file)


def _prefixed(show: Any, name: str, what: str, done: int, total: int) -> None:
    show(f"{name} {what}", done, total)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= side <= LARGEST for side in size):
        raise PtqsrError(
            f"--size {text}: give height x width of the input as 180x320, each 1 to {LARGEST}"
        )
    return size


def _threads(text: str) -> list[int]:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", text):
        raise PtqsrError(f"--threads {text}: give numbers as 1 or 1,2")
    numbers = list(dict.fromkeys(int(part) for part in text.split(",")))
    for number in numbers:
        if not 1 <= number <= (there or 1):
            raise PtqsrError(f"--threads {number}: must be 1 to {there}, the cores there are")
    return numbers


def _table(groups: list[Group], rounds: int) -> Table:
    table = Table(
        caption=f"{rounds} interleaved rounds: median and quartiles; ratio: time over float32's, "
        "round by round; memory: what one inference adds at most to the loaded network"
    )
    table.add_column("network")
    table.add_column("threads", justify="right")
    table.add_column("candidate", overflow="fold")
    for title in ("ms", "quartiles", "ratio", "memory, MiB"):
        table.add_column(title, justify="right")
    for _, title, records in groups:
        for record in records:
            table.add_row(title, str(record.threads), *_cells(record))
            title = ""
        table.add_section()
    return table


def _cells(record: Record) -> tuple[str, ...]:
    timing = record.timing
    if timing is None:
        return (f"{record.candidate}: not available ({record.unavailable})",)
    peak = record.peak_bytes
    return (
        record.candidate,
        f"{timing.median_ms:.2f}",
        f"{timing.low_ms:.2f} - {timing.high_ms:.2f}",
        f"{timing.ratio:.3f}",
        f"({record.memory_unavailable})" if peak is None else f"{peak / 2**20:.1f}",
    )
