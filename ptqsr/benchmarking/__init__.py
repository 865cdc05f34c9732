"""Latency and memory of networks, beside what other runtimes make of them."""

from ptqsr.benchmarking.chart import check_chart, write_chart
from ptqsr.benchmarking.run import CANDIDATES, Record, measure
from ptqsr.benchmarking.task import Task, task_of
from ptqsr.benchmarking.timer import machine

__all__ = [
    "CANDIDATES",
    "Record",
    "Task",
    "check_chart",
    "machine",
    "measure",
    "task_of",
    "write_chart",
]
