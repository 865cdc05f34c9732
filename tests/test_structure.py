"""The structure that docs/architecture.md describes, held against the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ptqsr"

# Each part may import from those before it, and from itself.
LAYERS = (
    "errors",
    "files",
    "config",
    "images",
    "models",
    "native",
    "ops",
    "packing",
    "points",
    "quantizers",
    "calibration",
    "modules",
    "plan",
    "lowering",
    "deployment",
    "methods",
    "evaluation",
    "sensitivity",
    "checkpoint",
    "training",
    "upscaling",
    "jobs",
    "cluster",
    "exporting",
    "benchmarking",
    "reporting",
    "cli",
)


def imports(path: Path) -> set[str]:
    """The parts of ptqsr that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ptqsr":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ptqsr."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("ptqsr.")}
    return found - {"__version__", "_native"}


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or not p.stem.startswith("__")]


def test_every_part_has_a_place() -> None:
    assert {part(path) for path in FILES} == set(LAYERS)


def test_imports_point_one_way() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in FILES
        for name in imports(path)
        if LAYERS.index(name) > LAYERS.index(part(path))
    ]
    assert not wrong


def test_models_and_config_stand_alone() -> None:
    for path in FILES:
        if part(path) in ("models", "config"):
            assert imports(path) <= {"errors", part(path)}, path


def test_csrc_knows_python_in_the_bindings_alone() -> None:
    csrc = ROOT / "csrc"
    for path in csrc.rglob("*"):
        if path.suffix in (".h", ".cpp", ".cu"):
            text = path.read_text()
            assert "torch/" not in text, path
            if path.parent.name != "bindings":
                assert "pybind11" not in text and "Python.h" not in text, path
            if path.parent.name == "cpu":
                assert "cuda" not in text, path
            if path.parent.name == "cuda":
                assert '"cpu/' not in text, path


IMPORTS = """
import sys, ptqsr
assert "torch" not in sys.modules
import ptqsr.cli.app, torch
assert not {"sklearn", "scipy"} & sys.modules.keys()
ptqsr.calibrate, ptqsr.evaluate, ptqsr.load, ptqsr.models, ptqsr.points
assert not torch.cuda.is_initialized()
"""


def test_imports_are_cheap_and_leave_cuda_alone() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_the_architecture_page_names_every_part_in_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page[page.index("| part |") : page.index("Native code:")]
    named = [
        name
        for line in table.splitlines()[2:]
        if line.startswith("|")
        for name in line.split("|")[1].replace("`", "").replace(" ", "").split(",")
    ]
    assert named == list(LAYERS)
