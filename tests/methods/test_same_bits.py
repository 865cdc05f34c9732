"""The same seed gives the same bits, on the same machine with as many threads."""

from __future__ import annotations

import os
import subprocess
import sys

# Layers whose sums PyTorch divides among threads.
CALIBRATED_TWICE = """
import torch, ptqsr
from torch import nn
from ptqsr import models

torch.set_num_threads(2)
torch.manual_seed(0)
layers = [nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, padding=1, groups=4), nn.ReLU()]
layers += [nn.Conv2d(64, 64, 1), nn.Conv2d(64, 3, 1)]
network, pictures = models.wrap(nn.Sequential(*layers), scale=1), list(torch.rand(2, 3, 48, 48))
for method in ("qdrop", "dfsq+"):
    reconstruct = method == "dfsq+"  # from what it is without
    config = ptqsr.Config(method=method, bits=4, iterations=2, reconstruct=reconstruct, seed=5)
    found = []
    for _ in range(2):
        torch.rand(1)  # the caller's random numbers have no say
        found.append(ptqsr.calibrate(network, pictures, config).state_dict())
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items()), method
assert torch.get_num_threads() == 2
"""


def test_same_seed_same_bits() -> None:
    # Threads that spin while they wait take the processor from each other where it is shared.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    subprocess.run([sys.executable, "-c", CALIBRATED_TWICE], check=True, env=environment)
