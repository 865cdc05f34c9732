"""A fresh process that measures one candidate's memory, for `memory.peak_bytes`."""

from __future__ import annotations

import json
import sys

from ptqsr.benchmarking.memory import peak_of
from ptqsr.benchmarking.run import CANDIDATES
from ptqsr.benchmarking.task import Task, Unavailable


def main() -> None:
    asked = json.load(sys.stdin)
    try:
        run = CANDIDATES[asked["candidate"]].load(Task.from_json(asked["task"]))
        answer: dict[str, int | str] = {"peak_bytes": peak_of(run)}
    except Unavailable as reason:
        answer = {"unavailable": str(reason)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
