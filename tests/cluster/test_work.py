"""What is sent to workers and made of what comes back, with an engine that is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle  # what Ray has a copy of
import numpy as np
import pytest
import torch
from helpers import photograph, write_photograph
from torch import nn

import ptqsr
from ptqsr import Config, PtqsrError, cluster, models
from ptqsr.evaluation import find_pairs
from ptqsr.jobs import Job, Settings, list_jobs, upscale_files
from ptqsr.upscaling import Planner

pytestmark = pytest.mark.usefixtures("one_thread")


class Pretended:
    """Two workers in this process: everything travels as pickles, the last item comes first."""

    workers, gpu = 2, False

    def __init__(self) -> None:
        self.sent: list[int] = []

    def map(self, setup: Any, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self.sent.append(len(items))
        text = cloudpickle.dumps(setup)
        workers = [cloudpickle.loads(text)() for _ in range(self.workers)]
        for number in reversed(range(len(items))):
            item = cloudpickle.loads(cloudpickle.dumps(items[number]))
            result = workers[number % self.workers](item)
            yield number, cloudpickle.loads(cloudpickle.dumps(result))


def state(network: models.SRNetwork) -> dict[str, torch.Tensor]:
    return network.state_dict()


CONFIGS = [
    Config(method="minmax", bits=4),
    Config(method="percentile", bits=4),
    Config(bits=4, selector="optimal", edges=8),
    Config(method="dfsq+", bits=3),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.method)
def test_calibration_is_that_of_one_process(
    tiny: models.SRNetwork, pictures: list[np.ndarray], config: Config
) -> None:
    ray = Pretended()
    shown: list[tuple[str, int, int]] = []
    here = ptqsr.calibrate(tiny, pictures, config)
    there = ptqsr.calibrate(
        tiny,
        pictures,
        config,
        gather=partial(cluster.gather, ray),
        progress=lambda *what: shown.append(what),
    )
    assert all(torch.equal(a, state(there)[name]) for name, a in state(here).items())
    assert ray.sent == ([3] if config.method == "minmax" else [3, 3])
    assert [step for step in shown if step[0] == "ranges"] == [("ranges", n, 3) for n in range(4)]


def test_pictures_are_named_by_their_numbers(tiny: models.SRNetwork) -> None:
    given: list[Any] = [photograph(9, 9) for _ in range(6)]
    given[5] = torch.full((3, 8, 8), 7.0)
    with pytest.raises(PtqsrError, match="calibration picture 5: values reach 7"):
        ptqsr.calibrate(tiny, given, gather=partial(cluster.gather, Pretended()))


def test_a_layer_that_runs_more_often_in_another_share_is_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.last = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            for _ in range(x.shape[2] // 4):
                y = self.again(y)
            return self.last(y)

    net = models.wrap(Net(), scale=1)
    pictures = [photograph(4, 4)] * 4 + [photograph(8, 4)] * 4
    with pytest.raises(PtqsrError, match=r"again: runs 2 times on .* picture 6, 1 on the first"):
        ptqsr.calibrate(net, pictures, gather=partial(cluster.gather, Pretended()))


def test_nothing_to_do_starts_no_worker() -> None:
    """As in a job that is finished; Ray takes no empty collections."""
    engine = object.__new__(cluster.Ray)
    assert list(engine.map(lambda: lambda item: item, [])) == []


def build(network: models.SRNetwork) -> models.SRNetwork:
    return network


def test_evaluation_is_that_of_one_process(tiny: models.SRNetwork, tmp_path: Path) -> None:
    for number in range(5):
        write_photograph(tmp_path / f"{number}.png", 40, 48, number)
    pairs = find_pairs(tmp_path, 2)
    shown: list[tuple[int, int]] = []
    found = cluster.evaluate(
        Pretended(), partial(build, tiny), pairs, lambda *what: shown.append(what)
    )
    assert found == ptqsr.evaluate(tiny, tmp_path)
    assert shown == [(n, 5) for n in range(1, 6)]


def test_upscaling_is_that_of_one_process(
    tiny: models.SRNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths may be relative; figures name them as they were given."""
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        write_photograph(Path("in") / f"{number}.png", 12, 9, number)
    Path("in/3.png").write_text("no picture")
    planner = Planner(tiny, memory="2GB")
    for job in (here := list_jobs(Path("in"), Path("here"))):
        assert not job.source.is_absolute()
    outcomes = {outcome.job: outcome for outcome in upscale_files(tiny, planner, here, Settings())}
    jobs = list_jobs(Path("in"), Path("there"))
    ray, planning = Pretended(), {"memory": "2GB", "in_use": planner.in_use}
    for outcome in cluster.upscale_files(ray, partial(build, tiny), planning, jobs, Settings()):
        job = Job(outcome.job.source, Path("here") / outcome.job.target.name)
        other = outcomes.pop(job)
        for figures in (outcome.figures, other.figures):
            figures.pop("seconds", 0)
            figures.pop("target", 0)
        if other.error is None:
            assert outcome.figures == other.figures
            assert outcome.job.target.read_bytes() == job.target.read_bytes()
        else:
            assert outcome.error == other.error.replace("in/", f"{tmp_path}/in/")
    assert not outcomes and ray.sent == [3]
