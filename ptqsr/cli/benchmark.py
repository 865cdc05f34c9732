"""`ptqsr benchmark`: how long networks take, and how much memory."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group

from ptqsr.benchmarking import (
    CANDIDATES,
    Step,
    Task,
    check_chart,
    commit,
    gpu,
    gpu_state,
    machine,
    measure,
    measure_on_gpu,
    steps,
    task_of,
    write_chart,
)
from ptqsr.benchmarking.task import Unavailable
from ptqsr.cli.benchmark_tables import Measured, step_table, table_of
from ptqsr.cli.device import Device, use_device
from ptqsr.cli.networks import Scale, open_or_build
from ptqsr.cli.output import JsonFile, check_json, progress_bar, report, stderr
from ptqsr.errors import PtqsrError, is_out_of_memory

LARGEST = 16384  # of a side, and of --batch
SIZES, GPU_SIZES = ("180x320",), ("270x480", "540x960", "1080x1920")


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
        typer.Option(
            help="Height x width of the input; repeatable. By default 180x320, on a GPU 270x480, "
            "540x960 and 1080x1920."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures in one inference.")] = 1,
    threads: Annotated[str, typer.Option(help="On the CPU, as 1 or 1,2.")] = "1",
    device: Device = "cpu",
    rounds: Annotated[int, typer.Option(help="Inferences of each candidate, 3 or more.")] = 10,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="On the CPU other runtimes too: int8 of PyTorch, ONNX Runtime, OpenVINO.",
        ),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CANDIDATE", help="Time this one, as float32; repeatable."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Step by step too: float and deployed, with TOP/s.")
    ] = False,
    memory: Annotated[
        bool, typer.Option(help="Measure peak memory, on the CPU in processes.")
    ] = True,
    scale: Scale = None,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help='Draw a bar chart; needs "ptqsr\\[chart]".'),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Time networks in float32, fake-quantized and deployed, in turn, and weigh them.

    On a GPU in float16 too: as it is, as a CUDA graph, by torch.compile, and by torch_tensorrt
    where that is installed; outputs are compared first.

    float32 has random weights, which do not change its latency: a checkpoint does not hold those
    before quantization. Int8 of the other runtimes is for its latency alone: it is calibrated on
    random inputs. They quantize the layers that the checkpoint does, or every layer.
    """
    check_json(json_file)
    if chart is not None:
        check_chart(chart)
    if rounds < 3:
        raise PtqsrError(f"--rounds {rounds}: must be at least 3")
    if not 1 <= batch <= LARGEST:
        raise PtqsrError(f"--batch {batch}: must be 1 to {LARGEST}")
    place = use_device(device)
    on_gpu = place.type == "cuda"
    sizes = [_size(text) for text in size or (GPU_SIZES if on_gpu else SIZES)]
    numbers = _threads(threads)
    if on_gpu and (peers or threads != "1"):
        raise PtqsrError(f"{'--peers' if peers else '--threads'}: is for --device cpu")
    _check_only(only or [], list(gpu.CANDIDATES if on_gpu else CANDIDATES))
    opened = [(name, open_or_build(name, scale)) for name in networks]
    groups: list[Measured] = []
    layered: list[tuple[str, list[Step]]] = []
    with progress_bar() as show:
        for name, network in opened:
            if network.calibration is None:
                stderr.print(
                    f"{name}: a float network, timed as such alone; `ptqsr calibrate` makes the "
                    "checkpoint that is timed fake-quantized and deployed too",
                    soft_wrap=True,
                )
            for height, width in sizes:
                task = task_of(network, name, height, width, batch, str(place))
                options: dict[str, Any] = {
                    "rounds": rounds,
                    "with_memory": memory,
                    "only": only or (),
                    "progress": partial(_prefixed, show, Path(name).name),
                }
                records = (
                    measure_on_gpu(task, **options)
                    if on_gpu
                    else measure(task, numbers, with_peers=peers, **options)
                )
                picture = f"{height}x{width}" + (f", batch {batch}" if batch > 1 else "")
                title = f"{Path(name).name}, {picture}"
                groups.append((name, title, records))
                if layers:
                    layered += [(title, found) for found in _layers(task)]
    if chart is not None:
        write_chart([(title, records) for _, title, records in groups], chart)
    figures = {
        "machine": {**machine(), "commit": commit()},
        "device": str(place),
        "gpu": gpu_state(str(place)) if on_gpu else None,
        "rounds": rounds,
        "records": [
            {"network": name, **record.to_json()} for name, _, group in groups for record in group
        ],
        "layers": [
            {"network": title, **step.to_json()} for title, group in layered for step in group
        ],
    }
    tables = [table_of(groups, rounds, on_gpu), *(step_table(*group) for group in layered)]
    report(Group(*tables), figures, json_file)


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


def _check_only(only: list[str], names: list[str]) -> None:
    for name in only:
        if name not in names:
            raise PtqsrError(f"--only {name}: choose of {'; '.join(names)}")


def _layers(task: Task) -> list[list[Step]]:
    """Return the steps of the float network and of the deployed one, where there is one."""
    on_gpu = task.device != "cpu"
    on_cpu = {name: CANDIDATES[name].load for name in ("float32", "deployed")}
    found = []
    for name, load in (gpu.STEP_BY_STEP if on_gpu else on_cpu).items():
        if name == "deployed" and task.checkpoint is None:
            continue
        try:
            found.append(steps(task, name, load))
        except Unavailable as reason:
            stderr.print(f"--layers, {name}: not available ({reason})", soft_wrap=True)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            stderr.print(f"--layers, {name}: not available (out of memory)", soft_wrap=True)
    return found
