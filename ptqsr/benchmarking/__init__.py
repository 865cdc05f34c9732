"""Latency and memory of networks, beside what other runtimes make of them."""

from ptqsr.benchmarking.chart import check_chart, write_chart
from ptqsr.benchmarking.gpu_run import gpu_state, measure_on_gpu
from ptqsr.benchmarking.layers import Step, steps
from ptqsr.benchmarking.run import CANDIDATES, Record, measure
from ptqsr.benchmarking.task import Task, task_of
from ptqsr.benchmarking.timer import commit, machine

__all__ = [
    "CANDIDATES",
    "Record",
    "Step",
    "Task",
    "check_chart",
    "commit",
    "gpu_state",
    "machine",
    "measure",
    "measure_on_gpu",
    "steps",
    "task_of",
    "write_chart",
]
