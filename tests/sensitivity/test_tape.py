"""A float network whose layers are exchanged one at a time, against the network itself, changed."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.models import SRNetwork, wrap
from ptqsr.modules import replace
from ptqsr.sensitivity import Tape


def test_tape_runs_no_layer_in_vain(tiny: SRNetwork) -> None:
    x = torch.rand(1, 3, 9, 8)
    names = ["body.0.body.0", "body.1.body.2"]
    tape = Tape(tiny, x, names)
    with torch.no_grad():
        assert torch.allclose(tape.output, tiny(x), atol=1e-5)
    ran: list[str] = []
    for name, module in tape.network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            function = module._conv_forward
            module._conv_forward = (  # type: ignore[method-assign]
                lambda *a, name=name, function=function: (ran.append(name), function(*a))[1]
            )
    original = tiny.get_submodule(names[1])
    with torch.no_grad():
        assert torch.allclose(tape.with_layer(names[1], original), tape.output, atol=1e-4)
    assert ran == ["body.2", "tail.0.0", "tail.1"]


class Pair(nn.Conv2d):
    """Gives more than a picture."""

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, int]:  # type: ignore[override]
        return super().forward(input), 1


class Wrapped(nn.Conv2d):
    """Takes more than its input, and has a layer within."""

    def __init__(self) -> None:
        super().__init__(8, 8, 1)
        self.within = nn.Conv2d(8, 8, 1)

    def forward(self, input: torch.Tensor, gain: float = 1) -> torch.Tensor:
        return self.within(super().forward(input)) * gain


class Winding(nn.Module):
    """x2: a convolution that runs twice, branches that the picture chooses, work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.again = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.bright, self.dark = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.wrapped, self.pair = Wrapped(), Pair(8, 8, 1)
        self.up = nn.ConvTranspose2d(8, 8, 3, padding=1)
        self.mix, self.tail = nn.Linear(8, 8), nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.again(F.relu_(self.head(x)))
        chosen = self.bright if float(x.mean()) > 0.5 else self.dark
        y = chosen(self.again(F.leaky_relu_(y, 0.1))).mul_(0.5).add_(y)
        y = y + self.mix(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.up(self.wrapped(y, gain=2), output_size=y.shape[2:])
        y = y + self.pair(y)[0]
        made: torch.Tensor = F.pixel_shuffle(self.tail(y), 2)
        return made


def test_tape_is_the_network_with_one_layer_exchanged() -> None:
    torch.manual_seed(0)
    network = wrap(Winding().eval())
    x = torch.rand(2, 3, 9, 8) * 0.5
    names = [n for n, module in network.named_modules() if type(module) is nn.Conv2d]
    assert "module.wrapped.within" in names
    tape = Tape(network, x, names)
    with torch.no_grad():
        plain = network(x)
        for name in names:
            old = network.get_submodule(name)
            assert isinstance(old, nn.Conv2d)
            other = copy.deepcopy(old)
            other.weight.mul_(-1.5)
            changed = copy.deepcopy(network)
            replace(changed, {changed.get_submodule(name): other})
            made = tape.with_layer(name, other)
            assert torch.allclose(made, changed(x), atol=1e-5)
            # The branch that the picture does not take changes nothing.
            assert torch.allclose(made, plain, atol=1e-5) == (name == "module.bright")
        assert torch.allclose(tape.output, plain, atol=1e-5)
