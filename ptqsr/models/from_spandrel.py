"""Networks that spandrel knows, 40 architectures of the field: from weights alone."""

from __future__ import annotations

import copy
import inspect
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ptqsr.errors import PtqsrError, is_out_of_memory, one_line
from ptqsr.models.base import Colours
from ptqsr.models.bounds import bounded
from ptqsr.models.flow import HEIGHT, WIDTH
from ptqsr.models.wrapped import WrappedNetwork

INSTALL = 'pip install "ptqsr[spandrel]"'


class SpandrelNetwork(WrappedNetwork):
    """One of spandrel's networks. `family`: its architecture there, whose class `kind` takes
    `settings`; without a `module` it is built with random weights.
    """

    architecture = "spandrel"

    def __init__(
        self,
        *,
        scale: int,
        colours: Colours,
        family: str,
        kind: str,
        settings: Mapping[str, Any],
        minimum: int = 0,
        multiple_of: int = 1,
        module: nn.Module | None = None,
    ) -> None:
        super().__init__(
            module=module or build(family, kind, settings),
            scale=scale,
            value_range=1.0,
            colours=colours,
            minimum=minimum,
            multiple_of=multiple_of,
        )
        self.name = family
        self.hyperparameters = {
            "scale": scale,
            "colours": colours,
            "family": family,
            "kind": kind,
            "settings": dict(settings),
            "minimum": minimum,
            "multiple_of": multiple_of,
        }


def load(state: Mapping[str, torch.Tensor], path: str | Path) -> SpandrelNetwork | None:
    """Return the network of a state dict, None where spandrel knows none with these names.

    Raises PtqsrError where spandrel is not there, or its network does not enlarge pictures as it
    is, and says why.
    """
    spandrel = _spandrel()
    try:
        with bounded(sum(tensor.numel() for tensor in state.values()), len(state)):
            found = spandrel.MAIN_REGISTRY.load(dict(state))
    except spandrel.UnsupportedModelError:
        return None
    except PtqsrError as error:
        raise PtqsrError(f"{path}: {error}") from None
    except Exception as error:
        # What does not fit makes its 40 architectures raise nearly anything.
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PtqsrError(f"{path}: fits no network of spandrel's ({reason})") from None
    family, sizes = found.architecture.id, found.size_requirements
    channels = found.input_channels
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.output_channels != channels:
        raise PtqsrError(f"{path}: {family} of spandrel does not make pictures of pictures alone")
    if channels not in (1, 3) or sizes.square:
        what = "square pictures" if sizes.square else f"pictures of {channels} channels"
        raise PtqsrError(f"{path}: {family} of spandrel takes {what}, which ptqsr does not")
    x = torch.rand((1, channels, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))
    try:
        # Copies: some change the picture, or keep what they make in inference mode.
        expected = copy.deepcopy(found)(x.clone())
        network = SpandrelNetwork(
            scale=found.scale,
            colours="y" if channels == 1 else "rgb",
            family=str(family),
            **_written_down(found.model, str(family)),
            minimum=sizes.minimum,
            multiple_of=sizes.multiple_of,
            module=found.model.eval(),
        )
        with torch.no_grad():
            y = network.eval()(x).clamp(0, 1)
    except Exception as error:  # sizes of tensors that no training gives
        if is_out_of_memory(error):
            raise
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PtqsrError(
            f"{path}: {family} of spandrel does not run with these weights ({reason})"
        ) from None
    if y.shape != expected.shape or not torch.allclose(y, expected, atol=1e-3, equal_nan=True):
        raise PtqsrError(
            f"{path}: spandrel gives {family} more than a picture; wrap the module yourself with "
            "ptqsr.models.wrap"
        )
    return network


def build(family: str, kind: str, settings: Mapping[str, Any]) -> nn.Module:
    """Return a network with random weights; raises PtqsrError where spandrel has none such."""
    spandrel = _spandrel()
    known = isinstance(family, str) and family in spandrel.MAIN_REGISTRY
    home = import_module(f"spandrel.architectures.{family}") if known else None
    made = getattr(home, str(kind), None)
    if not inspect.isclass(made) or not issubclass(made, nn.Module):
        raise PtqsrError(f"spandrel {spandrel.__version__} has no {one_line(f'{family} {kind}')}")
    try:
        return made(**settings)
    except PtqsrError:
        raise
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise PtqsrError(f"spandrel's {family} cannot be built ({reason})") from None


def _written_down(module: nn.Module, family: str) -> dict[str, Any]:
    """Return what `build` makes such a network of, as JSON has it: kind and settings."""
    home = vars(import_module(f"spandrel.architectures.{family}"))
    kind = next(name for name, value in home.items() if value is type(module))
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(module).__init__).parameters.items()
    }
    given: dict[str, Any] = module.hyperparameters  # type: ignore[assignment]
    settings = {name: value for name, value in given.items() if value != defaults.get(name)}
    return {"kind": kind, "settings": json.loads(json.dumps(settings))}


def installed() -> bool:
    """Return whether spandrel is there."""
    return find_spec("spandrel") is not None


def _spandrel() -> ModuleType:
    if not installed():
        raise PtqsrError(f"the network is one of spandrel's, which is not installed: {INSTALL}")
    stand_ins = [] if "spandrel" in sys.modules or _loads("torchvision") else _stand_in()
    try:
        return import_module("spandrel")
    except Exception as error:
        raise PtqsrError(f"spandrel cannot be imported ({one_line(error)}): {INSTALL}") from None
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _loads(name: str) -> bool:
    try:
        import_module(name)
    except Exception:  # a torchvision for another PyTorch raises RuntimeError
        return False
    return True


def _stand_in() -> list[str]:
    """Put empty modules in the place of torchvision; return their names.

    Of spandrel's networks LaMa and RestoreFormer alone use functions of it, and neither enlarges;
    but all are imported at once, and no torchvision on PyPI goes with a PyTorch for CPUs.
    """
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    names = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
    sys.modules.update({name: ModuleType(name) for name in names})
    for name in ("InterpolationMode", "normalize", "rotate"):
        setattr(sys.modules[names[-1]], name, None)
    return names
