"""Weight files in, state dicts out; nothing here ever executes a pickle."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ptqsr.errors import PtqsrError, no_file, one_line
from ptqsr.models.base import SRNetwork, matches

# Where training scripts put the network inside a larger dictionary.
WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net")
# Archives and strides can make a small file large. Weights hardly compress, unless they are few.
MAX_EXPANSION, ALWAYS_BYTES = 16, 64 << 20
MAX_NAME = 200


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the named float32 tensors of a .pt, .pth, .safetensors or .npz file.

    Pickles are read by PyTorch's restricted reader, which builds tensors and containers and runs
    no code; whatever else a file asks for is refused. Raises PtqsrError that names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise no_file(path)
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise PtqsrError(f"{path}: weights are read from {', '.join(READERS)}")
    try:
        return _unwrap(read(path), path)
    except PtqsrError:
        raise
    except OSError as error:
        raise PtqsrError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
    except Exception as error:
        # A damaged file makes the four readers raise nearly anything: zlib.error, TypeError, ...
        reason = one_line(error).partition(". ")[0]
        reason = "" if reason.isdigit() else reason  # a KeyError of a byte
        raise PtqsrError(
            f"{path}: truncated or no weight file{reason and f' ({reason})'}; "
            "copy or download it again"
        ) from None


def _check_size(path: Path, size: int) -> None:
    """Raise PtqsrError where a file's tensors, in bytes, are far larger than the file."""
    if size > max(MAX_EXPANSION * path.stat().st_size, ALWAYS_BYTES):
        raise PtqsrError(f"{path}: would become {size} bytes of tensors; no weights are packed so")


def _check_zip(path: Path) -> None:
    """Raise PtqsrError, or BadZipFile, where an archive would unpack to far more than it is."""
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(entry.file_size for entry in archive.infolist()))


def _read_pt(path: Path) -> object:
    if zipfile.is_zipfile(path):
        _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what matters raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # An unsupported operand is a byte that no pickle of tensors has: any other file has some.
        said, pickled = str(error), zipfile.is_zipfile(path) or _first_byte(path) == pickle.PROTO
        if "GLOBAL" in said or ("Unsupported" in said and pickled):
            raise PtqsrError(
                f"{path}: refused, since it is a pickle that may run code; "
                "save the tensors alone: torch.save(model.state_dict(), FILE)"
            ) from None
        raise PtqsrError(
            f"{path}: truncated or no weight file; copy or download it again"
        ) from None


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _read_safetensors(path: Path) -> object:
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("format") == "ptqsr":
            raise PtqsrError(
                f"{path}: is a checkpoint of ptqsr, quantized already; give the float weights"
            )
    return load_file(path)


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    _check_zip(path)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pt": _read_pt,
    ".pth": _read_pt,
}


def _unwrap(state: object, path: Path) -> dict[str, torch.Tensor]:
    for key in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state:
        raise PtqsrError(f"{path}: holds no state dict (names with tensors)")
    for name, value in state.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > MAX_NAME:
            raise PtqsrError(f"{path}: an entry has an odd name; save model.state_dict() alone")
        if not isinstance(value, torch.Tensor):
            raise PtqsrError(f"{path}: entry {name!r} is no tensor; save model.state_dict() alone")
        if not _is_plain(value):
            raise PtqsrError(f"{path}: {name} is no dense tensor of real numbers in memory")
    # A tensor of one number in memory may have any shape, and does once it is computed with.
    _check_size(path, sum(4 * tensor.numel() for tensor in state.values()))
    prefix = ""
    while all(name.startswith(f"{prefix}module.") for name in state):
        prefix += "module."  # of nn.DataParallel, once or more
    floats = {name.removeprefix(prefix): state[name].to(torch.float32) for name in state}
    for name, tensor in floats.items():
        if not torch.isfinite(tensor).all():
            raise PtqsrError(f"{path}: {name} holds NaN or Inf; use weights of a sound training")
    return floats


def _is_plain(tensor: torch.Tensor) -> bool:
    odd = tensor.is_complex() or tensor.is_quantized or tensor.is_nested
    return not odd and tensor.layout is torch.strided and tensor.device.type == "cpu"


def fill(
    network: SRNetwork, state: Mapping[str, torch.Tensor], source: str | Path, hint: str = ""
) -> None:
    """Load a state dict into a network.

    Raises PtqsrError that names the first differing keys or shapes and what was expected, with
    the hint at its end.
    """
    state = network.adapt(state)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    constant = {name for name in expected if matches(name, network.constants)}
    kind = f"{type(network).__name__} ({_describe(network.hyperparameters)})"
    problems = [
        ("lacks", [name for name in expected if name not in state and name not in constant]),
        ("has besides", [name for name in state if name not in expected]),
    ]
    for verb, names in problems:
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise PtqsrError(
                f"{source}: is no {kind}; it {verb} {', '.join(names[:3])}{more}{hint}"
            )
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            raise PtqsrError(
                f"{source}: is no {kind}; {name} has shape {tuple(tensor.shape)}, "
                f"expected {tuple(expected[name])}"
            )
    if problem := network.problem_with(state):
        raise PtqsrError(f"{source}: is no {kind}; {problem}")
    network.load_state_dict(state, strict=False)


def transfer(network: SRNetwork, path: str | Path) -> list[str]:
    """Take from a file the tensors of the network's names and shapes; return what stays as it was.

    So a network starts from one of another scale (Lim et al., 2017, section 3.2). Raises
    PtqsrError where the file has none of them.
    """
    state = network.adapt(read_state_dict(path))
    expected = {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if not matches(name, network.constants)
    }
    fitting = {name: t for name, t in state.items() if expected.get(name) == t.shape}
    if not fitting:
        kind = f"{type(network).__name__} ({_describe(network.hyperparameters)})"
        raise PtqsrError(f"{path}: none of its tensors fits {kind}")
    network.load_state_dict(fitting, strict=False)
    return [name for name in expected if name not in fitting]


def _describe(hyperparameters: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in hyperparameters.items())


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
