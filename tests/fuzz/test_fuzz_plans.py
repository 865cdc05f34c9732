"""Plans and sensitivities that are damaged or edited: sound ones, or one line that names them."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import tiny_edsr

from ptqsr import Config
from ptqsr import plan as plans
from ptqsr.errors import PtqsrError
from ptqsr.sensitivity import LayerSensitivity, Loss, Sensitivity, choose

from .test_fuzz_checkpoint import LENGTH, attempt, damaged, write

VALUES = (None, True, False, 0, -1, 4, 8, 10**400, 4.0, 1e400, float("nan"), "", "4", "\x1b[1m\n",
          [], {}, [4], {"4": {}}, {"name": "a"})  # fmt: skip


def containers(record: Any) -> list[Any]:
    inner = list(record.values()) if isinstance(record, dict) else record
    inner = [
        found for part in inner if isinstance(part, (dict, list)) for found in containers(part)
    ]
    return [record, *inner] if record else inner


def edited(record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Put something else in one place of a record, take one away, or add one."""
    record = copy.deepcopy(record)
    places = containers(record)
    place = places[rng.integers(len(places))]
    key = rng.choice(list(place)) if isinstance(place, dict) else int(rng.integers(len(place)))
    how = rng.integers(8)
    if how == 0:
        del place[key]
    elif how == 1 and isinstance(place, dict):
        place[str(rng.choice(["-1", "nan", "\u0664", "a\nb", "4.0"]))] = place[key]
    elif how == 2 and isinstance(place, list):
        place.append(place[key])
    else:
        place[key] = VALUES[rng.integers(len(VALUES))]
    return record


def sensitivities() -> dict[str, Any]:
    losses = {4: Loss(2.0, 0.5), 8: Loss(0.1, 0.01)}
    rows = [LayerSensitivity(name, 9, True, losses) for name in "ab"]
    edge = LayerSensitivity("c", 9, False, {8: Loss(0.0, 0.0)})
    return Sensitivity("a x2", "0", "dfsq", (*rows, edge)).to_json()


@pytest.mark.parametrize("what", ["plan", "sensitivity"])
def test_files(what: str, tmp_path: Path) -> None:
    path, network = tmp_path / "file.json", tiny_edsr()
    plans.write(plans.plan(network, Config()), path, network)
    record = json.loads(path.read_text()) if what == "plan" else sensitivities()
    read: Any = partial(plans.read, network=network) if what == "plan" else Sensitivity.read
    rng = np.random.default_rng(0)
    sound = 0
    for turn in range(round(150 * LENGTH)):
        text = json.dumps(edited(record, rng) if turn % 2 else record, indent=1)
        write(path, text.encode() if turn % 2 else damaged(text.encode(), rng))
        found = attempt(read, path)
        if isinstance(found, Sensitivity) and turn % 5 == 0:
            try:
                choice = choose(found, target_bits=6)
                assert choice.mean_bits <= 6 and choice.loss < 1e101
            except PtqsrError as error:
                assert str(error).isprintable()
        elif isinstance(found, tuple):
            Config(layers=found)
        sound += found is not None
    assert 0 < sound < 150 * LENGTH
