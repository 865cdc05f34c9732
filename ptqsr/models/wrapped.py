"""A user's own module in the zoo's clothes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ptqsr.errors import PtqsrError, one_line
from ptqsr.models.base import Colours, SRNetwork, device_of, evaluating, matches
from ptqsr.models.fitting import Fit
from ptqsr.models.flow import HEIGHT, WIDTH, Flow, Place
from ptqsr.models.tracing import as_graph
from ptqsr.models.watching import watch

MAX_SIDE = 512  # that pictures may be padded to, at least
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class WrappedNetwork(SRNetwork):
    """Feeds a module its own value range; `places` are what one run of it shows.

    A module that changes its own weights as it runs, as re-parameterised ones do, is taken as its
    torch.fx graph, which does not: quantized layers keep their weights there.
    """

    architecture = "wrapped"
    divided = False

    def __init__(
        self,
        *,
        module: nn.Module,
        scale: int | None,
        value_range: float,
        colours: Colours,
        minimum: int = 0,
        multiple_of: int = 1,
    ) -> None:
        if (scale is not None and scale < 1) or not value_range > 0 or colours not in ("rgb", "y"):
            raise PtqsrError(
                f"wrap: scale {scale}, value_range {value_range}, colours {colours!r}; "
                'give a scale of at least 1, a positive range, and "rgb" or "y"'
            )
        if not 0 <= minimum <= MAX_SIDE or not 1 <= multiple_of <= MAX_SIDE:
            raise PtqsrError(
                f"wrap: minimum {minimum}, multiple_of {multiple_of}; "
                f"give at most {MAX_SIDE} pixels"
            )
        module = _bare(module)
        _check(module)
        super().__init__(scale=scale or 0, colours=colours, value_range=value_range)
        if multiple_of > 1:
            self.hyperparameters["multiple_of"] = multiple_of
        self.name = type(module).__name__
        self.module = module
        self.value_range = value_range
        self.fit = Fit(minimum, multiple_of) if minimum or multiple_of > 1 else None
        self.flow: Flow | None = None
        self.unknown = ""  # why nothing is known of what it does
        self.changes_input = False
        self._watch()
        self.changes_input = self.flow is None or self.flow.input_changed
        if scale is None:
            self.scale = self.hyperparameters["scale"] = self._found_scale()
        found: Mapping[str, Place] = self.flow.places if self.flow else {}
        self.quantized_layers = tuple(n for n, place in found.items() if place.part == "body")

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return x: where a user's network begins to enlarge is not known."""
        return x

    def reconstruct(self, x: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        given = x if self.fit is None else self.fit(x)
        if self.value_range == 1:
            y = self.module(given.clone() if self.changes_input else given)
        else:
            y = self.module(given * self.value_range) / self.value_range
        if self.fit is None or not self.scale:
            return y
        return self.fit.cut(y, height * self.scale, width * self.scale)

    def places(self) -> dict[str, Place]:
        if self.flow is None:
            raise PtqsrError(
                "which layers can be quantized is unknown: the network does not run on a picture "
                f"of {WIDTH}x{HEIGHT} pixels ({self.unknown})"
            )
        return {name: self._listed(name, place) for name, place in self.flow.places.items()}

    def _listed(self, name: str, place: Place) -> Place:
        """Return a layer's place as `quantized_layers`, which users may change, has it."""
        listed = matches(name, self.quantized_layers)
        if place.part == "never" or listed == (place.part == "body"):
            return place
        return Place("body", "on the list") if listed else Place("edge", "taken off the list")

    def _picture(self, more: int = 0) -> torch.Tensor:
        shape = (1, 1 if self.colours == "y" else 3, HEIGHT + more, WIDTH + more)
        return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device_of(self))

    @torch.inference_mode(False)
    def _watch(self) -> None:
        """Find out what the module's layers do."""
        with evaluating(self):
            try:
                self.flow = watch(self, self._picture())
                if self.flow.changed:
                    self._settle()
            except PtqsrError as error:
                self.unknown = str(error)
            except Exception as error:  # whatever a module of the user's own does
                self.unknown = one_line(f"{type(error).__name__}: {error}")
                kinds = {p.dtype for p in self.parameters() if p.is_floating_point()}
                if kinds and torch.float32 not in kinds:
                    self.unknown += f"; its weights are {kinds.pop()}: call .float() on it"

    @torch.no_grad()
    def _settle(self) -> None:
        """Take the module as its graph, if that computes the same."""
        module = self.module
        try:
            expected = [self(self._picture(more)) for more in (0, 16)]
            self.module = as_graph(module, self._picture().shape)
            same = all(
                torch.allclose(self(self._picture(more)), y, rtol=1e-4, atol=1e-5)
                for more, y in zip(count(0, 16), expected)
            )
        except Exception:
            same = False
        if same:
            self.flow = watch(self, self._picture())
        else:
            self.module = module

    def _found_scale(self) -> int:
        if self.flow is None:
            raise PtqsrError(
                f"wrap: the scale cannot be found on a picture of {WIDTH}x{HEIGHT} pixels "
                f"({self.unknown}); mend that, or wrap it with scale=..., a network of one channel "
                "with colours='y'"
            )
        picture = self._picture()
        given = picture if self.fit is None else self.fit(picture)
        (height, width), (low, narrow) = self.flow.size, given.shape[-2:]
        if not height or height % low or width != narrow * (height // low):
            raise PtqsrError(
                f"wrap: the network makes {width}x{height} of {narrow}x{low} pixels: that is no "
                "whole scale"
            )
        return height // low


def _bare(module: nn.Module) -> nn.Module:
    """Return what others have put into modules that run it in parallel, or compiled."""
    inner = module.module if isinstance(module, PARALLEL) else getattr(module, "_orig_mod", None)
    return _bare(inner) if isinstance(inner, nn.Module) else module


def _check(module: nn.Module) -> None:
    """Raise PtqsrError for modules that take no hooks, or whose weights are still to come."""
    for name, inner in module.named_modules():
        if isinstance(inner, torch.jit.ScriptModule):
            raise PtqsrError(f"wrap: {name or 'it'} is scripted; give what the script was made of")
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            raise PtqsrError(
                f"wrap: {name} has no values yet; load the weights, or run a lazy module once"
            )
