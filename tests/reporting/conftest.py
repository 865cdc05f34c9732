"""Small networks quantized in three ways, and a report of them that is made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import photograph, tiny_edsr

import ptqsr
from ptqsr.images import downscale
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d, sense
from ptqsr.quantizers import SelectedQuantizer, UniformQuantizer
from ptqsr.reporting import Pictures, Report, Subject, make_report, write_page


def quantized(model: SRNetwork, **options: object) -> SRNetwork:
    chosen = {"selector": "optimal", **options}  # the faster one
    return ptqsr.calibrate(model, [photograph(24, 30, 9)], ptqsr.Config(**chosen))


def choosing(model: SRNetwork) -> SRNetwork:
    """A network whose patches take 3 or 8 bits, by the picture's gradient."""
    network = quantized(model, method="minmax", bits=8)
    for layer in network.modules():
        if isinstance(layer, FakeQuantConv2d):
            few = UniformQuantizer.from_range(-40.0, 40.0, 3)
            weight = torch.zeros(2, 2 + layer.in_channels)
            weight[1, :2] = 0.2
            both = [few, layer.quantizer]
            bias = torch.tensor([0.2 * 68, 0.0])
            layer.quantizer = SelectedQuantizer(both, weight, bias, by="both")
    sense(network)
    return network


def subject(title: str, model: SRNetwork, network: SRNetwork) -> Subject:
    return Subject(title, network, model, "bundled", {}, patches=16, overlap=4)


def pairs(scale: int = 2) -> list[tuple[str, object, object]]:
    names = ("first", 'a <b>&"c"')
    return [(name, *downscale(photograph(60, 84, seed), scale)) for seed, name in enumerate(names)]


@pytest.fixture(scope="session")
def made() -> Report:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = tiny_edsr()
    subjects = [
        subject("four", model, quantized(model, bits=4)),
        subject("eight", model, quantized(model, method="minmax", bits=8)),
        subject("choosing", model, choosing(model)),
    ]
    pictures = Pictures(pairs(), pairs(), "two pictures")
    report = make_report(subjects, pictures, crops=3, crop_size=20, seed=0)
    torch.set_num_threads(threads)
    return report


@pytest.fixture(scope="session")
def page(made: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(made, path)
    return path
