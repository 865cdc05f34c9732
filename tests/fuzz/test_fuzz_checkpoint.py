"""Checkpoints that are damaged or made up: a sound network, or one line that names the file.

PTQSR_FUZZ=20 makes these tests, and those of the other readers, 20 times as long.
"""

from __future__ import annotations

import copy
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from helpers import photograph
from safetensors.torch import save

import ptqsr
from ptqsr import Config, PtqsrError, checkpoint, models
from ptqsr.modules import FakeQuantConv2d, place
from ptqsr.quantizers import OffsetQuantizer, Offsets, UniformQuantizer

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH = float(os.environ.get("PTQSR_FUZZ", "1"))
# What reading one of these small files may take; far more than any of them needs.
SECONDS, KIBIBYTES = 10, 512 << 10

T = TypeVar("T")
Tensors = dict[str, torch.Tensor]


def attempt(read: Callable[[Path], T], path: Path, message: str = "") -> T | None:
    """Return what a reader makes of a file; None where it refuses it, with the right line.

    `message` is a pattern for that line, which in any case names the file.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of memory begins anew
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    made = None
    try:
        made = read(path)
    except PtqsrError as error:
        line = str(error)
        assert str(path) in line and line.isprintable() and len(line) < 2000, repr(line)
        assert re.search(message, line), line
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KIBIBYTES
    return made


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, insert, take away or repeat some bytes; the first ones more often."""
    new = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        where = int(rng.integers(len(new) if rng.random() < 0.5 else min(len(new), 300)))
        how, count = int(rng.integers(7)), int(rng.integers(1, 9))
        if how == 0:
            del new[where + 1 :]
        elif how == 1:
            del new[where + 1 : where + 1 + count]
        elif how == 2:
            new[where:where] = rng.bytes(count)
        elif how == 3:
            new[where : where + count] = rng.bytes(count)
        elif how == 4:
            new[where : where + 4] = bytes(rng.choice([0, 127, 255], 4).tolist())
        elif how == 5:
            new[where:where] = new[where : where + 8 * count]
        else:
            new[where] ^= 1 << int(rng.integers(8))
    return bytes(new)


def write(path: Path, content: bytes) -> None:
    """Write a file anew: to overwrite one takes some file systems milliseconds."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def small_edsr() -> models.SRNetwork:
    return models.build("edsr", scale=2, weights=None, blocks=1, width=8)


NETWORKS: dict[str, tuple[Callable[[], models.SRNetwork], Config]] = {
    "dfsq": (small_edsr, Config(selector="optimal")),
    "minmax": (small_edsr, Config(method="minmax", weight_bits=3)),
    "trained": (small_edsr, Config(method="minmax", weight_bits=3)),
    "joined": (
        lambda: models.build("rdn", scale=2, weights=None, blocks=1, layers=2, growth=8, width=8),
        Config(selector="optimal", universal_set="sq-2word"),
    ),
}


def retouch(network: models.SRNetwork) -> None:
    """Give a network what `ptqsr finetune` gives: fewer levels, offsets, quantizers elsewhere."""
    first, second, *_ = [m for m in network.modules() if isinstance(m, FakeQuantConv2d)]

    def levels() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(0.5), torch.tensor(-7, dtype=torch.int32)

    first.quantizer = UniformQuantizer(*levels(), bits=4, levels=15)
    shift, gain = (Offsets.from_float(torch.randn(8)) for _ in range(2))
    second.quantizer = OffsetQuantizer(*levels(), bits=4, shift=shift, gain=gain)
    place(network.get_submodule("body.0"), "input", first.quantizer)
    end = UniformQuantizer(*levels(), bits=4, levels=15)
    place(network.get_submodule("body.0.body.2"), "output", end)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, (build, config) in NETWORKS.items():
        torch.manual_seed(0)
        network = ptqsr.calibrate(build(), [photograph(16, 18)], config)
        if name == "trained":
            retouch(network)
        ptqsr.save(network, folder / f"{name}.safetensors")
    return folder


def picture() -> torch.Tensor:
    return torch.linspace(0, 1, 126).view(1, 3, 6, 7)


@pytest.mark.parametrize("name", NETWORKS)
def test_damaged_bytes(folder: Path, tmp_path: Path, name: str) -> None:
    """What is loaded in spite of the damage is the network that was saved."""
    whole = folder / f"{name}.safetensors"
    content, expected = whole.read_bytes(), ptqsr.load(whole)(picture())
    path, refused, trials = tmp_path / "damaged.safetensors", 0, int(300 * LENGTH)
    rng = np.random.default_rng(0)
    for _ in range(trials):
        write(path, damaged(content, rng))
        network = attempt(ptqsr.load, path)
        refused += network is None
        assert network is None or torch.equal(network(picture()), expected)
    assert refused > 0.9 * trials


# --- files with a right digest ---


def forge(path: Path, manifest: Any, tensors: Tensors) -> Path:
    """Write a checkpoint; `manifest` is JSON, or the text itself."""
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    metadata = {
        "format": checkpoint.FORMAT,
        "version": str(checkpoint.VERSION),
        "manifest": text,
        "sha256": checkpoint._digest(text, tensors),
    }
    write(path, save(tensors, metadata))
    return path


def read_and_run(path: Path) -> models.SRNetwork:
    """Load a network, which must then run, and be saved and loaded again, as any other."""
    network = ptqsr.load(path)
    y = network(picture())
    assert y.shape == (1, 3, 6 * network.scale, 7 * network.scale) and y.dtype == torch.float32
    again = path.with_name("again.safetensors")
    again.unlink(missing_ok=True)
    ptqsr.save(network, again)
    assert torch.allclose(ptqsr.load(again)(picture()), y, rtol=0, atol=0, equal_nan=True)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_forged_as_it_was(folder: Path, tmp_path: Path, name: str) -> None:
    """What the tests below change is then all that their files are refused for."""
    manifest, tensors = checkpoint.read(folder / f"{name}.safetensors")
    assert attempt(read_and_run, forge(tmp_path / "forged.safetensors", manifest, tensors))


DELETE = object()
VALUES: tuple[Any, ...] = (
    *(DELETE, None, True, False, 0, 1, 2, 3, -1, 7, 8, 64, 4096, 10**9, 1 << 63, 10**4000),
    *(0.0, 0.5, 2.0, 1e300, float("nan"), float("inf"), -float("inf")),
    *("", "edsr", "rdn", "idn", "rgb", "uniform", "subset", "int8", "dfsq-107", "body.0.body.0"),
    *("\x1b[2J\n\u2028\x85", "\ud800", "x" * 100_000, [], {}, [[]], {"": []}, [1, 2], ["head.0"]),
    *([[0, 1], [0, 0.5]], [[0, 1]] * 20, [[0, 2.0**-k] for k in range(20)], [[0, 10**400]]),
    json.loads("[" * 300 + "]" * 300),
)


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a manifest's values are."""
    if isinstance(node, (dict, list)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield (*at, key)
            yield from places(value, (*at, key))


def edit(node: Any, at: tuple[Any, ...], value: Any) -> None:
    for key in at[:-1]:
        node = node[key]
    if value is DELETE:
        del node[at[-1]]
    else:
        node[at[-1]] = value


@pytest.mark.parametrize("name", NETWORKS)
def test_edited_manifests(folder: Path, tmp_path: Path, name: str) -> None:
    manifest, tensors = checkpoint.read(folder / f"{name}.safetensors")
    everywhere = [at for at in places(manifest) if at[0] != "provenance"]
    rng, loaded, trials = np.random.default_rng(0), 0, int(200 * LENGTH)
    for _ in range(trials):
        new = copy.deepcopy(manifest)
        for _ in range(int(rng.integers(1, 3))):
            with suppress(LookupError, TypeError):  # where the first edit took the place away
                edit(
                    new,
                    everywhere[rng.integers(len(everywhere))],
                    VALUES[rng.integers(len(VALUES))],
                )
        loaded += (
            attempt(read_and_run, forge(tmp_path / "forged.safetensors", new, tensors)) is not None
        )
    assert 0 < loaded < 0.3 * trials


@pytest.mark.parametrize(
    "text",
    [
        *("", "\0\n", "null", "NaN", "7", "[]", "[[1, 2]]", "{}", "{", '{"a": 1, "a": 2}'),
        *("[" * 100_000, '{"a":' * 100_000, '{"a": 1' + "0" * 5000 + "}"),
    ],
    ids=lambda text: repr(text[:8]),
)
def test_manifests_that_are_none(folder: Path, tmp_path: Path, text: str) -> None:
    _, tensors = checkpoint.read(folder / "dfsq.safetensors")
    assert attempt(read_and_run, forge(tmp_path / "forged.safetensors", text, tensors)) is None


def filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda t: torch.full(t.shape, value, dtype=torch.float64).to(t.dtype)


def noise(t: torch.Tensor) -> torch.Tensor:
    size = t.numel() * t.element_size()
    return torch.randint(0, 256, (size,), dtype=torch.uint8).view(t.dtype).view(t.shape)


CASTS = ("float8_e4m3fn", "float16", "float32", "float64", "complex64", "bool", "uint8", "uint64")
TENSOR_EDITS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    *(lambda t, d=dtype: t.to(getattr(torch, d)) for dtype in (*CASTS, "int8", "int16", "int32")),
    *map(filled, (0, 1, -1, 1e30, -1e30, 1e-45, 2**31 - 1, -(2**31))),
    *map(filled, (float("nan"), float("inf"), -float("inf"))),
    lambda t: t.reshape(-1),
    lambda t: t[None],
    lambda t: t.reshape(-1)[:0],
    lambda t: t.reshape(-1)[:-1],
    lambda t: torch.cat((t.reshape(-1), t.reshape(-1))),
    lambda t: t.reshape(-1).flip(0).view(t.shape),
    lambda t: t.reshape(-1).view(torch.float4_e2m1fn_x2 if t.element_size() == 1 else torch.int8),
    noise,
)


@pytest.mark.parametrize("name", NETWORKS)
def test_edited_tensors(folder: Path, tmp_path: Path, name: str) -> None:
    manifest, tensors = checkpoint.read(folder / f"{name}.safetensors")
    names = list(tensors)
    rng, loaded, trials = np.random.default_rng(0), 0, int(120 * LENGTH)
    torch.manual_seed(0)
    for _ in range(trials):
        key = names[rng.integers(len(names))]
        change = TENSOR_EDITS[rng.integers(len(TENSOR_EDITS))]
        new = {**tensors, key: change(tensors[key]).contiguous()}
        loaded += (
            attempt(read_and_run, forge(tmp_path / "forged.safetensors", manifest, new)) is not None
        )
    assert 0.2 * trials < loaded < 0.8 * trials


# --- what was once let through, or let loose ---

FORGERIES: dict[str, tuple[str, Callable[[Any, Tensors], None], str]] = {}


def forgery(network: str, message: str) -> Callable[[Callable[[Any, Tensors], None]], None]:
    """Name a change to a network's manifest and tensors, and what is said of it."""

    def add(change: Callable[[Any, Tensors], None]) -> None:
        FORGERIES[change.__name__] = network, change, message

    return add


@forgery("dfsq", "is unknown")
def another_architecture(manifest: Any, _: Tensors) -> None:
    manifest["architecture"] = "vdsr"


@forgery("dfsq", "res_scale is ''")
def text_for_a_factor(manifest: Any, _: Tensors) -> None:
    manifest["hyperparameters"]["res_scale"] = ""


@forgery("joined", "value_range is None")
def nothing_for_a_range(manifest: Any, _: Tensors) -> None:
    manifest["hyperparameters"]["value_range"] = None


@forgery("joined", "blocks is 0")
def no_blocks(manifest: Any, _: Tensors) -> None:
    manifest["hyperparameters"]["blocks"] = 0


@forgery("joined", "more than")
def a_million_layers(manifest: Any, _: Tensors) -> None:
    manifest["hyperparameters"] |= {"blocks": 1000, "layers": 1000}


@forgery("trained", "shift outside 4 bits")
def offsets_beyond_their_bits(_: Any, tensors: Tensors) -> None:
    tensors["body.0.body.2.quantizer.0.shift_codes"][0] = -128


@forgery("trained", "17 levels of 4 bits")
def more_levels_than_codes(manifest: Any, _: Tensors) -> None:
    for settings in manifest["quantizers"].values():
        settings["levels"] = 17


@forgery("trained", "no place for a quantizer: 'output' of a Sequential")
def a_quantizer_in_a_container(manifest: Any, _: Tensors) -> None:
    manifest["placed"][0][:2] = "body.0.body", "output"


@forgery("trained", "a quantizer of kind uniform with offsets stands there")
def offsets_in_a_shortcut(manifest: Any, _: Tensors) -> None:
    manifest["placed"][0][2] = "body.0.body.2.quantizer.0"


@forgery("minmax", "2.0 bits")
def a_fraction_of_bits(manifest: Any, _: Tensors) -> None:
    for settings in manifest["quantizers"].values():
        settings["bits"] = 2.0


@forgery("minmax", "lowest level")
def levels_that_overflow(_: Any, tensors: Tensors) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".lowest"):
            tensor.fill_(2**31 - 1)


@forgery("minmax", "not positive")
def steps_of_zero(_: Any, tensors: Tensors) -> None:
    tensors["body.0.body.0.weight_step"].zero_()


@forgery("dfsq", "not ascending")
def a_point_without_magnitude(_: Any, tensors: Tensors) -> None:
    tensors["body.0.body.0.quantizer.0.points"][:, 0] = -(2**31)


@forgery("dfsq", "OverflowError")
def an_element_beyond_floats(manifest: Any, _: Tensors) -> None:
    for settings in manifest["quantizers"].values():
        settings["universal_set"]["words"] = [[0, 10**400]]


@forgery("dfsq", "complex64")
def complex_bias(_: Any, tensors: Tensors) -> None:
    tensors["head.0.bias"] = tensors["head.0.bias"].to(torch.complex64)


@forgery("dfsq", "version 9 is unknown")
def another_configuration(manifest: Any, _: Tensors) -> None:
    manifest["config"]["version"] = 9


@forgery("dfsq", r"layer head\?\[2J")
def a_name_for_the_terminal(manifest: Any, tensors: Tensors) -> None:
    row = manifest["layers"].pop("body.0.body.0")
    manifest["layers"]["head\x1b[2J\nall is well"] = row
    for name in [n for n in tensors if n.startswith("body.0.body.0.weight")]:
        tensors[name.replace("body.0.body.0", "head\x1b[2J\nall is well")] = tensors.pop(name)


def joined_parts(manifest: Any) -> list[str]:
    return next(r["quantizers"] for r in manifest["layers"].values() if len(r["quantizers"]) > 1)


@forgery("dfsq", "no whole numbers")
def a_shape_of_text(manifest: Any, _: Tensors) -> None:
    """Multiplied by the others, the text would fill the memory."""
    manifest["layers"]["body.0.body.0"]["shape"] = ["x" * 100_000, 100, 100, 1]


@forgery("joined", "2 kinds")
def parts_of_other_bits(manifest: Any, tensors: Tensors) -> None:
    key = joined_parts(manifest)[1]
    manifest["quantizers"][key]["bits"] = 3
    tensors[f"{key}.points"] = tensors[f"{key}.points"][:, :8].contiguous()


@forgery("joined", "parts of kinds")
def a_uniform_part(manifest: Any, tensors: Tensors) -> None:
    parts = joined_parts(manifest)
    manifest["quantizers"]["other"] = {"kind": "uniform", "bits": 4}
    tensors["other.step"], tensors["other.lowest"] = torch.tensor(1.0), torch.tensor(-1).int()
    parts.append("other")


@forgery("dfsq", "do not hold")
def a_network_of_gigabytes(manifest: Any, tensors: Tensors) -> None:
    """All of its convolutions are said to be packed, and only the biases are there."""
    hyperparameters = {"scale": 2, "blocks": 40, "width": 1024}
    with torch.device("meta"):
        network = models.build("edsr", weights=None, **hyperparameters)
    manifest["hyperparameters"] = hyperparameters
    for name, tensor in network.state_dict().items():
        if "mean" in name:
            continue
        tensors[name] = torch.zeros(tensor.shape if tensor.ndim == 1 else 1)
        if tensor.ndim == 4:
            layer = name.removesuffix(".weight")
            row = {"weight_bits": 4, "shape": list(tensor.shape), "quantizers": ["none"]}
            manifest["layers"][layer] = row
            tensors[f"{layer}.weight_codes"] = torch.zeros(1, dtype=torch.uint8)
            tensors[f"{layer}.weight_step"] = torch.ones(len(tensor))
            tensors[f"{layer}.weight_zero_point"] = torch.zeros(len(tensor), dtype=torch.int16)


@forgery("dfsq", "KeyError")
def many_quantizers(manifest: Any, tensors: Tensors) -> None:
    """Looking every one of them up among all tensors once took minutes."""
    settings = next(iter(manifest["quantizers"].values()))
    keys = [f"q{i}" for i in range(10_000)]
    manifest["quantizers"] = dict.fromkeys(keys, settings)
    tensors |= {
        f"{key}.{part}": torch.zeros(0) for key in keys for part in ("points", "nonnegative")
    }


@pytest.mark.parametrize("case", FORGERIES)
def test_forgeries(folder: Path, tmp_path: Path, case: str) -> None:
    name, change, message = FORGERIES[case]
    manifest, tensors = checkpoint.read(folder / f"{name}.safetensors")
    change(manifest, tensors)
    path = forge(tmp_path / "forged.safetensors", manifest, tensors)
    assert attempt(read_and_run, path, message) is None


ABSURD: tuple[tuple[str, list[int], int], ...] = (
    ("F32", [0, 1 << 63], 0),
    ("F32", [0, 1 << 62, 4], 0),
    ("F32", [0] * 70, 0),
    ("F32", [1] * 70, 4),
    ("F6_E2M3", [4], 3),
    ("F4", [2], 1),
)


@pytest.mark.parametrize("case", ABSURD, ids=str)
def test_absurd_shapes_and_numbers(tmp_path: Path, case: tuple[str, list[int], int]) -> None:
    """What safetensors itself lets through, or has no words for."""
    dtype, shape, size = case
    path = tmp_path / "odd.safetensors"
    header = json.dumps(
        {
            "a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]},
            "__metadata__": {"format": checkpoint.FORMAT, "version": str(checkpoint.VERSION)},
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    assert attempt(ptqsr.load, path) is None
