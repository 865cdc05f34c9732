"""What an exported file says of the network in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import ptqsr
from ptqsr.models import SRNetwork
from ptqsr.modules import FakeQuantConv2d


def metadata_of(network: SRNetwork, provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return texts by name; all but names and numbers are JSON.

    Of every network `ptqsr` (the version), `architecture`, `scale`, `colours`, `hyperparameters`
    and `provenance`; of calibrated ones also `method`, `weight_bits`, `act_bits` ("mixed" where a
    plan has each layer's), `config` and `layers`, with bits and kind of quantizer of each.
    """
    found = {
        "ptqsr": ptqsr.__version__,
        "architecture": network.architecture,
        "scale": str(network.scale),
        "colours": network.colours,
        "hyperparameters": json.dumps(network.hyperparameters),
        "provenance": json.dumps(dict(provenance)),
    }
    if network.calibration is None:
        return found
    layers = {
        name: {
            "kind": module.quantizer.kind,
            "weight_bits": module.weight_bits,
            "act_bits": module.act_bits,
        }
        for name, module in network.named_modules()
        if isinstance(module, FakeQuantConv2d)
    }
    mixed = bool(network.calibration.layers)
    return found | {
        "method": network.calibration.method,
        "weight_bits": "mixed" if mixed else str(network.calibration.weight_bits),
        "act_bits": "mixed" if mixed else str(network.calibration.act_bits),
        "config": network.calibration.to_json(),
        "layers": json.dumps(layers),
    }
