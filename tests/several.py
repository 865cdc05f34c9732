"""Commands in processes of their own, forked from one that has imported everything."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ptqsr.cli.app", "torch.distributed"])


def start(commands: list[list[str]], output: Path, **environment: str) -> BaseProcess:
    """Run commands, one after the other, in a process; `output` gets what they say."""
    process = CONTEXT.Process(target=_run, args=(json.dumps(commands), f"{output}", environment))
    process.start()
    return process


def torchrun(commands: list[list[str]], output: Path, processes: int = 2) -> list[BaseProcess]:
    """Start what `torchrun --nproc-per-node` starts; outputs have the process's number appended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    same = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, TORCHELASTIC_RUN_ID="test")
    return [
        start(
            *(commands, output.with_suffix(f".{number}")),
            **same,
            WORLD_SIZE=f"{processes}",
            RANK=f"{number}",
            LOCAL_RANK=f"{number}",
        )
        for number in range(processes)
    ]


def _run(commands: str, output: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    sys.stdout = sys.stderr = open(output, "w", buffering=1)  # noqa: SIM115
    import torch
    import torch.distributed

    from ptqsr.cli.app import app

    torch.set_num_threads(1)
    if environment:  # once for all commands
        torch.distributed.init_process_group("gloo")
    for arguments in json.loads(commands):
        app(arguments, standalone_mode=False)
