"""Weight files that are damaged or made up: sound weights, or one line that names the file."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_bytes
from safetensors.torch import save_file

from ptqsr import models
from ptqsr.models.weights import read_state_dict

from .test_fuzz_checkpoint import LENGTH, attempt, damaged, write

pytestmark = pytest.mark.usefixtures("one_thread")

State = dict[str, torch.Tensor]


def save_npz(state: State, path: Path) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez(path, **arrays)


def save_compressed(state: State, path: Path) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez_compressed(path, **arrays)


def save_legacy(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


FORMATS: dict[str, tuple[str, Callable[[State, Path], None]]] = {
    "zip": (".pth", torch.save),
    "legacy": (".pt", save_legacy),
    "safetensors": (".safetensors", save_file),
    "npz": (".npz", save_npz),
    "compressed": (".npz", save_compressed),
}


def read(path: Path) -> State:
    state = read_state_dict(path)
    assert state
    for name, tensor in state.items():
        assert type(name) is str and tensor.dtype == torch.float32 and tensor.isfinite().all()
    return state


def load_and_run(path: Path, scale: int | None = None) -> models.SRNetwork:
    network = models.load(path, scale=scale)
    x = torch.linspace(0, 1, 126).view(1, 3, 6, 7)[:, : 1 if network.colours == "y" else 3]
    assert network(x).shape == (*x.shape[:2], 6 * network.scale, 7 * network.scale)
    return network


def edsr() -> State:
    torch.manual_seed(0)
    return models.build("edsr", scale=2, weights=None, blocks=1, width=8).state_dict()


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes(tmp_path: Path, kind: str) -> None:
    suffix, save = FORMATS[kind]
    path = tmp_path / f"w{suffix}"
    save(edsr(), path)
    assert attempt(load_and_run, path) is not None
    content, rng, refused, trials = (
        path.read_bytes(),
        np.random.default_rng(0),
        0,
        int(200 * LENGTH),
    )
    for trial in range(trials):
        write(path, damaged(content, rng))
        refused += attempt(load_and_run if trial % 2 else read, path) is None
    assert 0.5 * trials < refused < trials


# --- pickles ---


def archive(pickled: bytes, path: Path) -> Path:
    """Write a file as torch.save does, but with this pickle."""
    whole = io.BytesIO()
    torch.save({"w": torch.zeros(1)}, whole)
    path.unlink(missing_ok=True)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return path


def legacy(pickled: bytes, path: Path) -> Path:
    """Write a file as torch.save once did, but with this pickle, and a storage of one number."""
    magic, protocol = 0x1950A86A20F9469CFC6C, 1001
    head = [pickle.dumps(part, 2) for part in (magic, protocol, {"little_endian": True})]
    pickled = pickled.replace(b"K\x01tQ", b"K\x01NtQ")  # a storage has a sixth part there
    tail = [pickle.dumps(["0"], 2), (1).to_bytes(8, "little"), bytes(4)]
    write(path, b"".join([*head, pickled, *tail]))
    return path


def bare(pickled: bytes, path: Path) -> Path:
    write(path, pickled)
    return path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def calls(module: str, name: str, argument: str) -> list[bytes]:
    """Every way in which a pickle can call a function of one text."""
    named, given = f"{module}\n{name}\n".encode(), text(argument)
    return [
        b"\x80\x02c" + named + given + b"\x85R.",
        b"\x80\x02}" + text("w") + b"c" + named + given + b"\x85Rs.",
        b"\x80\x02c" + named + given + b"\x85\x81.",
        b"\x80\x04c" + named + given + b"\x85}\x92.",
        b"(" + given + b"i" + named + b".",
        b"(c" + named + given + b"o.",
        b"\x80\x04" + text(module) + text(name) + b"\x93" + given + b"\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)R}" + text("w") + b"c" + named + given + b"\x85Rsb.",
        b"\x80\x02(c" + named + given + b"tQ.",
    ]


@pytest.mark.parametrize("container", [archive, legacy, bare])
def test_no_pickle_runs_code(tmp_path: Path, container: Callable[[bytes, Path], Path]) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    python = f"open({str(marker)!r}, 'w')"
    pickles = [
        *calls("os", "system", f"touch {marker}"),
        *calls("posix", "system", f"touch {marker}"),
        *calls("builtins", "eval", python),
        *calls("builtins", "exec", python),
        *calls("__builtin__", "eval", python),
        *calls("torch.hub", "os.system", f"touch {marker}"),
        *calls("torch.serialization", "os.system", f"touch {marker}"),
        *calls("pathlib", "Path.touch", str(marker)),
        *calls("numpy.core.multiarray", "fromstring", python),
    ]
    for pickled in pickles:
        assert attempt(read, container(pickled, path)) is None
        assert not marker.exists()
    # They are harmless for the reader alone: an ordinary one runs them.
    pickle.loads(calls("os", "system", f"touch {marker}")[0])
    assert marker.exists()


class Opens:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_no_array_of_objects_runs_code(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.npz"
    np.savez(path, w=np.array([Opens(marker)], dtype=object), allow_pickle=True)
    assert attempt(read, path) is None and not marker.exists()
    with np.load(path, allow_pickle=True) as arrays:
        arrays["w"][0].close()
    assert marker.exists()


@pytest.mark.parametrize("container", [archive, legacy])
def test_odd_pickles(tmp_path: Path, container: Callable[[bytes, Path], Path]) -> None:
    """Of harmless parts alone, but no state dict."""
    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00"
    end = b"\x89ccollections\nOrderedDict\n)RtR"
    path = tmp_path / "odd.pth"
    sound = b"\x80\x02}" + text("w") + tensor + b"K\x01\x85K\x01\x85" + end + b"s."
    assert attempt(read, container(sound, path)) == {"w": torch.zeros(1)}
    ordered = b"\x80\x02ccollections\nOrderedDict\n)R}"
    many = b"J\xff\xff\xff\x7f"
    pickles = [
        *(b"", b".", b"N.", b"\x80\x02}.", b"\x80\x02].", b"\x80\x02}K\x01Ns.", b"\x80\x09}."),
        # Names that are deep, no text, for a terminal, or very long.
        b"\x80\x02}K\x01" + b"\x85" * 1000 + b"Ns.",
        *(b"\x80\x02}" + text(name) + tensor + b"))" + end + b"s." for name in ("a\nb", "\x1b[2J")),
        b"\x80\x02}" + text("w" * 100_000) + tensor + b"))" + end + b"s.",
        # Attributes that stand in for methods.
        *(ordered + text(name) + b"K\x05sb." for name in ("items", "get", "keys", "__iter__")),
        # Shapes, strides and offsets beyond the storage.
        *(
            b"\x80\x02}" + text("w") + tensor + where + end + b"s."
            for where in (
                b"K\x02\x85K\x01\x85",
                many + b"\x85K\x01\x85",
                many + many + b"\x86K\x00K\x00\x86",
                many + b"K\x40\x86K\x00K\x00\x86",
                b"J\xff\xff\xff\xff\x85K\x01\x85",
                b"K\x02\x85J\xff\xff\xff\xff\x85",
                b"NN",
            )
        ),
        # Values that are no tensors in memory.
        b"\x80\x02}" + text("w") + b"ctorch\nFloatStorage\n" + many + b"\x85Rs.",
        b"\x80\x02}" + text("w") + b"ctorch\nTensor\nJ\x00\x00\x01\x00J\x00\x00\x01\x00\x86Rs.",
        b"\x80\x02}" + text("w") + b"ctorch\nFloatTensor\ns.",
        b"\x80\x02}" + text("state_dict") + b"]s.",
    ]
    for pickled in pickles:
        assert attempt(read, container(pickled, path)) is None, pickled[:200]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, when such tensors are made
def test_odd_tensors(tmp_path: Path) -> None:
    """In the place of a bias of 8 numbers."""
    eight = torch.linspace(-1, 1, 8)
    taken = {
        **{str(d): eight.to(d) for d in (torch.float64, torch.bfloat16, torch.float8_e5m2)},
        **{str(d): eight.to(d) for d in (torch.bool, torch.int8, torch.uint64)},
        "Parameter": torch.nn.Parameter(eight),
        "strided": torch.linspace(-1, 1, 16)[::2],
        "expanded": torch.zeros(1).expand(8),
    }
    refused = {
        "complex": eight.to(torch.complex64),
        "conjugate": eight.to(torch.complex64).conj(),
        "sparse": eight.to_sparse(),
        "vast and sparse": torch.sparse_coo_tensor(
            torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (1 << 40,)
        ),
        "csr": torch.eye(8).to_sparse_csr(),
        "meta": eight.to("meta"),
        "quantized": torch.quantize_per_tensor(eight, 0.1, 0, torch.qint8),
        "quantized by channel": torch.quantize_per_channel(
            eight, torch.ones(8), torch.zeros(8), 0, torch.quint8
        ),
        "nested": torch.nested.nested_tensor([eight, eight[:3]]),
        "float4": torch.zeros(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        "bits": torch.zeros(8, dtype=torch.uint8).view(torch.bits8),
        "vast": torch.zeros(1).expand(40_000, 40_000),
        "no dimension": torch.tensor(1.0),
        "a hundred dimensions": torch.zeros([1] * 100),
        "none": torch.zeros(0),
        "none, but vast": torch.zeros(1 << 60, 0),
        "NaN": eight * float("nan"),
        "too large": torch.full((8,), 1e300, dtype=torch.float64),
    }
    path = tmp_path / "odd.pth"
    for name, tensor in {**taken, **refused}.items():
        torch.save({**edsr(), "head.0.bias": tensor}, path)
        assert (attempt(load_and_run, path) is not None) == (name in taken), name


# --- archives and headers ---


def test_archives_that_unpack_to_far_more(tmp_path: Path) -> None:
    zeros = {"w": torch.zeros(25_000_000)}
    path = tmp_path / "w.npz"
    save_compressed(zeros, path)
    assert path.stat().st_size < 200_000
    assert attempt(read, path, "would become") is None
    whole, path = io.BytesIO(), tmp_path / "w.pth"
    torch.save(zeros, whole)
    with (
        zipfile.ZipFile(whole) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert attempt(read, path, "would become") is None


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2147483648, 2147483648, 4)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 4}",
        "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f16', 'fortran_order': False, 'shape': (0,)}",
        "{'descr': __import__('os').getpid(), 'fortran_order': False, 'shape': (1,)}",
        "[" * 5000,
    ],
)
def test_headers_of_arrays(tmp_path: Path, header: str) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as file:
        content = header.encode("latin1") + b"\n"
        file.writestr(
            "w.npy", b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + bytes(4)
        )
    assert attempt(read, path) is None


# --- names of the zoo, tensors of no sense ---

ZOO: dict[str, tuple[str, dict[str, Any]]] = {
    "edsr": ("edsr", {"blocks": 2, "width": 8}),
    "edsr bn": ("edsr", {"blocks": 1, "width": 8, "batch_norm": True}),
    "rdn": ("rdn", {"blocks": 2, "layers": 2, "growth": 8, "width": 8}),
    "srresnet": ("srresnet", {"blocks": 2, "width": 8}),
    "carn": ("carn", {"width": 8}),
    "carn_m": ("carn_m", {"width": 16}),
    "idn": ("idn", {"width": 16}),
    "idn y": ("idn", {"width": 16, "colours": "y"}),
    "imdn": ("imdn", {"blocks": 2, "width": 16}),
}


def odd_shape(shape: torch.Size, rng: np.random.Generator) -> tuple[int, ...]:
    """Another shape, of few elements."""
    sizes = list(shape)
    how = rng.integers(6)
    if how == 0 or not sizes:
        return tuple(rng.integers(0, 5, rng.integers(0, 6)).tolist())
    at = int(rng.integers(len(sizes)))
    if how == 1:
        sizes[at] = int(rng.integers(0, 20))
    elif how == 2:
        del sizes[at]
    elif how == 3:
        sizes.insert(at, 1)
    elif how == 4:  # as large as may be, without a byte
        sizes[0], sizes[-1] = int(rng.choice([1024, 4096, 5000, 1 << 40])), 0
    else:
        sizes = sizes[::-1]
    return tuple(sizes) if math.prod(sizes) < 1 << 20 else (0,)


@pytest.mark.parametrize("case", ZOO)
def test_names_of_the_zoo(tmp_path: Path, case: str) -> None:
    name, hyperparameters = ZOO[case]
    rng, loaded, trials = np.random.default_rng(0), 0, int(50 * LENGTH)
    path = tmp_path / "w.safetensors"
    sound = {
        scale: models.build(name, scale=scale, weights=None, **hyperparameters).state_dict()
        for scale in (2, 3, 4)
    }
    for _ in range(trials):
        scale = int(rng.choice([2, 3, 4]))
        state = dict(sound[scale])
        if rng.random() < 0.9:
            for key in rng.choice(list(state), rng.integers(1, 4)).tolist():
                if rng.random() < 0.3:
                    state.pop(key, None)
                else:
                    state[key] = torch.zeros(odd_shape(state.get(key, torch.zeros(())).shape, rng))
        write(path, to_bytes(state))
        asked = [None, scale, int(rng.choice([1, 2, 3, 4]))][rng.integers(3)]
        loaded += attempt(partial(load_and_run, scale=asked), path) is not None
    assert 0 < loaded < 0.6 * trials


def test_names_of_a_network_of_gigabytes(tmp_path: Path) -> None:
    """Its tensors have no elements, so that the file is small."""
    with torch.device("meta"):
        network = models.build("edsr", scale=2, weights=None, blocks=30, width=1024)
    state = {name: torch.zeros(*t.shape[:1], 0, 3, 3) for name, t in network.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    assert attempt(load_and_run, tmp_path / "w.safetensors") is None
