"""A folder job that is killed at random and resumed, and one on a cluster: are the files the same?

    python -m benchmarks.interruptions --json benchmarks/results/interruptions.json

Every run is a process of its own that SIGKILL ends a random time after a random picture, or segment
of a clip, is there; these are spread over the job. What a run left under the names of outputs is
compared with an undisturbed run's files each time, and everything after the last; then the same job
by `--engine ray` on a cluster of two workers. Pictures and frames are random, the network is small.
Clips need PyAV, the cluster Ray; `--clips 0` and `--workers 0` leave them out. Exits with 1 where a
file differs, or where the job ended before it was killed so often.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # what networks without values import, once for all runs
from PIL import Image
from safetensors.torch import save_file

from benchmarks.timer import write
from ptqsr import models
from ptqsr.cli.app import app

RATE = 25


class Arguments(argparse.Namespace):
    pictures: int
    clips: int
    frames: int
    height: int
    width: int
    kills: int
    workers: int
    seed: int
    json: str | None


def make_inputs(folder: Path, arguments: Arguments) -> None:
    """Write the network, and pictures and clips of it to be enlarged."""
    torch.manual_seed(arguments.seed)
    network = models.build("edsr", scale=2, weights=None, blocks=2, width=16)
    save_file(network.state_dict(), folder / "network.safetensors")
    rng = np.random.default_rng(arguments.seed)
    size = (arguments.height, arguments.width, 3)
    (folder / "in").mkdir()
    for number in range(arguments.pictures):
        picture = rng.integers(0, 256, size, np.uint8)
        Image.fromarray(picture).save(folder / "in" / f"{number:03}.png")
    for number in range(arguments.clips):
        import av

        with av.open(str(folder / "in" / f"{number:03}.mkv"), "w") as clip:
            stream = clip.add_stream("ffv1", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = arguments.width, arguments.height, "bgr0"
            for _ in range(arguments.frames):
                frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, size, np.uint8), "rgb24")
                clip.mux(stream.encode(frame.reformat(format="bgr0")))
            clip.mux(stream.encode(None))


def start(folder: Path, target: str, workers: int = 0) -> int:
    """Begin the job, or go on with it, in a process; return its id.

    It is a copy of this process, which spares it the imports: this one never computes.
    """
    if process := os.fork():
        return process
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        torch.set_num_threads(1)
        names = map(str, (folder / "in", folder / target, "-c", folder / "network.safetensors"))
        with cluster(workers) if workers else nullcontext(()) as engine:
            status = app(["upscale", *names, *engine], standalone_mode=False) or 0
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
    finally:
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, ...]]:
    """Run a cluster of so many CPUs on this machine; give the options that use it."""
    import ray

    # Workers import ptqsr, and unpickle networks, from where this process does.
    path = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    ray.init(num_cpus=workers, include_dashboard=False, runtime_env={"env_vars": path})
    yield ("--engine", "ray", "--workers", str(workers))
    ray.shutdown()


def finish(process: int, folder: Path) -> None:
    """Wait for a run to end by itself; exits where it failed."""
    if os.waitpid(process, 0)[1] != 0:
        sys.exit(f"a run failed: {(folder / 'log').read_text()}")


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the outputs in a folder: what stands there under names that users gave."""
    return {path.name: path.read_bytes() for path in folder.glob("[0-9]*")}


def differing(folder: Path, wanted: dict[str, bytes]) -> list[str]:
    """Return which outputs of a finished job are not as wanted, and what else it left."""
    found = outputs(folder)
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return sorted(wrong + [path.name for path in folder.glob(".*")])


def segments(folder: Path) -> int:
    """Return how many segments of clips that are not finished are there."""
    return sum(1 for _ in folder.glob(".*.parts/[0-9]*"))


def pieces(folder: Path, in_clip: int) -> int:
    """Return how many pictures and segments are there; finished clips have `in_clip` of these."""
    clips = sum(1 for _ in folder.glob("[0-9]*.mkv"))
    return sum(1 for _ in folder.glob("[0-9]*.png")) + clips * in_clip + segments(folder)


def segments_of(frames: int) -> int:
    """Return how many segments a clip has."""
    from ptqsr.jobs.video.encoding import SEGMENT

    return -(-frames // SEGMENT)


def killed(process: int, there: Callable[[], int], wanted: float, after: float) -> bool:
    """Kill a process once so many pieces are there, and then so many seconds later.

    Returns whether it was still at work.
    """
    ended = 0
    while there() < wanted and not ended:
        time.sleep(0.002)
        ended = os.waitpid(process, os.WNOHANG)[0]
    if ended:
        return False
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in (("pictures", 60), ("clips", 2), ("kills", 10), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    for name, usual in (("height", 60), ("width", 80), ("frames", 400), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--json")
    arguments = parser.parse_args(namespace=Arguments())
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, arguments)
        began = time.perf_counter()
        finish(start(folder, "undisturbed"), folder)
        seconds = time.perf_counter() - began
        wanted = outputs(folder / "undisturbed")
        assert len(wanted) == arguments.pictures + arguments.clips
        in_clip = segments_of(arguments.frames) if arguments.clips else 0
        there = partial(pieces, folder / "killed", in_clip)
        total = arguments.pictures + arguments.clips * in_clip
        rows = []
        for kill in range(arguments.kills):
            enough = rng.uniform(kill, kill + 1) / (arguments.kills + 1) * total
            after = rng.uniform(0, seconds / total)
            if not killed(start(folder, "killed"), there, enough, after):
                sys.exit(f"the job ended before kill {kill + 1}; give more pictures")
            found, unfinished = outputs(folder / "killed"), segments(folder / "killed")
            wrong = [name for name, data in found.items() if data != wanted[name]]
            rows.append({"files": len(found), "segments": unfinished, "wrong": wrong})
            print(f"kill {kill + 1}: {len(found)} of {len(wanted)} files, {unfinished} segments")
        finish(start(folder, "killed"), folder)
        figures = {
            "files": len(wanted),
            "seconds": round(seconds, 2),
            "kills": rows,
            "wrong": differing(folder / "killed", wanted),
        }
        if arguments.workers:
            finish(start(folder, "cluster", arguments.workers), folder)
            wrong = differing(folder / "cluster", wanted)
            figures["cluster"] = {"workers": arguments.workers, "wrong": wrong}
    jobs = [figures, figures.get("cluster", {"wrong": []}), *rows]
    wrong = [name for job in jobs for name in job["wrong"]]
    print(
        f"{arguments.kills} kills, {arguments.workers} workers of a cluster: "
        + (f"WRONG: {wrong}" if wrong else "every file is whole and the same")
    )
    write(arguments.json, figures)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
