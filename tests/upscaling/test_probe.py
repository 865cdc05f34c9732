"""What the probe says of a function, against what is counted by hand and what the function does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptqsr.models import SRNetwork, sketch
from ptqsr.upscaling import Planner
from ptqsr.upscaling.probe import Extent, probe

from .networks import VARIANTS, lively

pytestmark = pytest.mark.usefixtures("one_thread")

HEIGHT, WIDTH = 30, 40
Function = Callable[[torch.Tensor], torch.Tensor]


def extent(module: nn.Module, height: int = HEIGHT, width: int = WIDTH) -> Extent:
    """What the probe says of a module for pictures of three colours."""
    return probe(module.to("meta"), torch.empty(1, 3, height, width, device="meta"))[0]


def conv(channels: int, made: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    padding = (kernel - 1) * dilation // 2
    return nn.Conv2d(channels, made, kernel, padding=padding, dilation=dilation)


def reach(function: Function, *inputs: torch.Tensor) -> int:
    """How many input pixels away a change in the middle of all inputs is seen at most.

    Also asserts that it is seen at all.
    """
    row, column = inputs[0].shape[2] // 2, inputs[0].shape[3] // 2
    changed = [x.clone() for x in inputs]
    for x in changed:
        x[..., row, column] += 1
    with torch.no_grad():
        before, after = function(*inputs), function(*changed)
    scale = before.shape[2] // inputs[0].shape[2]
    # In float64; fast convolutions let rounding errors of a pixel spread.
    rows, columns = torch.where(((after - before).abs() > 1e-11).any(1)[0])
    assert len(rows)
    down, across = (rows // scale - row).abs().max(), (columns // scale - column).abs().max()
    return int(max(down, across))


STACKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "nothing": (lambda: nn.ReLU(), 0),
    "1x1": (lambda: conv(3, 8, 1), 0),
    "3x3": (lambda: conv(3, 8, 3), 1),
    "9x9 and 5x5": (lambda: nn.Sequential(conv(3, 8, 9), nn.PReLU(), conv(8, 3, 5)), 4 + 2),
    "dilated": (lambda: nn.Sequential(conv(3, 4, 3, 3), nn.GELU(), conv(4, 4, 5, 2)), 3 + 4),
    "one long side": (lambda: nn.Conv2d(3, 3, (1, 7), padding=(0, 3)), 3),
    # A border moves pixels, which counts too: it does not show that the kernel moves them back.
    "even kernels": (
        lambda: nn.Sequential(
            *(nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(3, 3, 2)),) * 3
        ),
        6,
    ),
    # A 3x3 of the small picture, then one of the large: 1 + 1/2, up to whole pixels.
    "pixel shuffle": (
        lambda: nn.Sequential(conv(3, 12, 3), nn.PixelShuffle(2), conv(3, 3, 3)),
        2,
    ),
    "pixel shuffle, twice": (
        lambda: nn.Sequential(
            *(conv(3, 12, 3), nn.PixelShuffle(2), conv(3, 12, 3), nn.PixelShuffle(2)),
            conv(3, 3, 9),
        ),
        1 + 1 + 1,  # 1 + 1/2 + 4/4 = 2.5
    ),
    # Each of its 17 taps lies a quarter of a pixel from the next.
    "transposed": (lambda: nn.ConvTranspose2d(3, 3, 17, stride=4, padding=8, output_padding=3), 4),
    "nearest": (lambda: nn.Sequential(nn.Upsample(scale_factor=2), conv(3, 3, 3)), 1),
    "bilinear": (lambda: nn.Upsample(scale_factor=3, mode="bilinear"), 1),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), 2),
    "batch norm": (lambda: nn.Sequential(conv(3, 4, 3), nn.BatchNorm2d(4)).eval(), 1),
    "reflected border": (lambda: nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect"), 4),
}


@pytest.mark.parametrize(("make", "radius"), STACKS.values(), ids=STACKS)
def test_radius_counted_by_hand(make: Callable[[], nn.Module], radius: int) -> None:
    torch.manual_seed(0)
    found = extent(make())
    assert not found.whole_picture
    assert found.radius == radius
    seen = reach(make().double(), torch.rand(1, 3, HEIGHT, WIDTH, dtype=torch.float64))
    assert radius // 2 <= seen <= radius


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def gate(mean: Function) -> Function:
    """What a channel is worth, from its mean."""
    return lambda x: x * torch.sigmoid(mean(x))


def attention(x: torch.Tensor) -> torch.Tensor:
    """Every pixel asks every other; the tensors between are larger than the picture."""
    pixels = x.flatten(2)
    return (pixels @ (pixels.mT @ pixels).softmax(-1)).view_as(x)


WHOLE: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: Of(gate(lambda x: x.mean((2, 3), keepdim=True))),
    "largest": lambda: Of(gate(lambda x: x.amax((2, 3), keepdim=True))),
    "adaptive pooling to 1": lambda: Of(gate(nn.AdaptiveAvgPool2d(1))),
    "adaptive pooling to 10": lambda: nn.Sequential(nn.AdaptiveMaxPool2d(10), nn.PixelShuffle(1)),
    # A gate that has more values than a small picture has pixels.
    "mean of many channels": lambda: nn.Sequential(
        conv(3, 64, 1), Of(gate(lambda x: x.mean((2, 3), keepdim=True)))
    ),
    "batch norm in training": lambda: nn.BatchNorm2d(3),
    "instance norm": lambda: nn.InstanceNorm2d(3),
    "group norm": lambda: nn.GroupNorm(1, 3),
    "softmax": lambda: Of(lambda x: x.flatten(2).softmax(-1).view_as(x)),
    "attention": lambda: Of(attention),
    # Local, but where a tile begins counts.
    "strides": lambda: nn.Sequential(nn.Conv2d(3, 12, 2, 2), nn.PixelShuffle(2)),
    "pooling": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2)),
    "pixel unshuffle": lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.PixelShuffle(2)),
    "resizing by 3/2": lambda: nn.Upsample(scale_factor=1.5),
    "corners aligned": lambda: nn.UpsamplingBilinear2d(scale_factor=2),
    # One row for all others, rows among others.
    "first row": lambda: Of(lambda x: x + x[:, :, :1]),
    "a row expanded": lambda: Of(lambda x: x.narrow(2, 3, 1).expand_as(x) * 2),
    "a row selected": lambda: Of(lambda x: x + x.select(2, 1).unsqueeze(2)),
    "rows joined": lambda: Of(lambda x: torch.cat((x[:, :, 5:], x[:, :, :5]), dim=2)),
    # Around the border to the other side.
    "roll": lambda: Of(lambda x: x.roll(1, 2)),
    "circular": lambda: nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_needs_the_whole_picture(make: Callable[[], nn.Module]) -> None:
    assert extent(make()).whole_picture


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (2, 9), (3, 3)])
def test_a_gate_of_a_narrow_picture(size: tuple[int, int]) -> None:
    assert extent(WHOLE["mean of many channels"](), *size).whole_picture


def test_statistics_of_weights_are_none_of_the_picture() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(3, 3, 64, 64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, (self.weight - self.weight.mean())[..., :3, :3], padding=1)

    found = extent(Normalised(), 8, 8)
    assert not found.whole_picture and found.radius == 1


def test_a_shift_counts() -> None:
    shifted = extent(Of(lambda x: nn.functional.pad(x, (0, 8))[..., 8:] * 1))
    assert not shifted.whole_picture and shifted.radius >= 8


def test_subset_quantizer_needs_the_whole_picture(quantized: SRNetwork) -> None:
    network = sketch(quantized)
    x = torch.empty(1, 3, HEIGHT, WIDTH, device="meta")
    assert probe(network.features, x)[0].whole_picture
    with torch.no_grad():
        features = network.features(x)
    tail = probe(network.reconstruct, x, features)[0]
    assert not tail.whole_picture and tail.radius == 2


# --- memory: float32, 30x40 pixels ---

PIXELS = 4 * HEIGHT * WIDTH


def test_memory_counted_by_hand() -> None:
    """The input is not counted, but for the copy that a convolution may make of it."""
    one = extent(nn.Sequential(conv(3, 8, 3), nn.ReLU()))
    # 8 channels, and copies of 3 and 8; then only 8 and 8.
    assert (one.peak_bytes, one.result_bytes) == (19 * PIXELS, 8 * PIXELS)
    two = extent(nn.Sequential(conv(3, 8, 3), nn.ReLU(), conv(8, 20, 3), nn.ReLU()))
    # 8, 20 and copies of both; then 20 and 20.
    assert (two.peak_bytes, two.result_bytes) == (56 * PIXELS, 20 * PIXELS)
    assert (one.convolutions, two.convolutions) == (1, 2)


class Chain(nn.Module):
    """No convolutions: 3 channels become 6, 12, 12 and 1; the first are kept to the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.cat((x, x), 1)
        y = torch.cat((kept, kept), 1)
        y = y * 2  # 6, 12 and 12
        y = y[:, :1] + 1  # the 12 stay behind the view until there is the sum: 6, 12 and 1
        return y + kept.sum(1, keepdim=True)


def test_memory_without_convolutions() -> None:
    found = extent(Chain())
    assert (found.peak_bytes, found.result_bytes) == (30 * PIXELS, PIXELS)


def test_in_place_and_views_take_no_memory() -> None:
    chain = nn.Sequential(conv(3, 12, 1), nn.ReLU(inplace=True), nn.Flatten(2))
    found = extent(chain)
    assert found.result_bytes == 12 * PIXELS
    assert found.peak_bytes == (12 + 3 + 12) * PIXELS


def test_output_that_is_the_input_takes_no_memory() -> None:
    found = extent(nn.Identity())
    assert (found.peak_bytes, found.result_bytes, found.radius) == (0, 0, 0)


# --- the zoo ---


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_networks_see(variant: str, scale: int) -> None:
    """The radius is an upper bound, and not by much."""
    network = lively(variant, scale)
    features, tail = Planner(network)._probe(99, 99)
    assert features.whole_picture == (variant == "imdn") and not tail.whole_picture
    network.double()
    side = 2 * (features.radius + tail.radius) + 5
    x = torch.rand(1, 1 if network.colours == "y" else 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        made = network.features(x)
    assert tail.radius // 3 <= reach(network.reconstruct, x, made) <= tail.radius
    seen = reach(network.features, x)
    if features.whole_picture:
        assert seen == side // 2
    else:
        assert features.radius // 2 <= seen <= features.radius
        assert seen <= reach(network, x) <= features.radius + tail.radius
