"""Quantized networks on disk: safetensors with a JSON manifest; no pickle anywhere.

The file's metadata holds `format`, `version`, `manifest` (JSON) and `sha256`, the digest of the
manifest and of every tensor. Weights are packed at their bit-width (ptqsr.packing).
"""

from __future__ import annotations

import copy
import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

import ptqsr
from ptqsr.config import Config
from ptqsr.deployment import DeployedNetwork
from ptqsr.errors import PtqsrError, no_file, one_line
from ptqsr.files import replacing
from ptqsr.models import PatchWise, SRNetwork, check_network, rebuild
from ptqsr.models.bounds import bounded
from ptqsr.modules import FakeQuantConv2d, as_convolutions, place, placed, replace, sense
from ptqsr.packing import pack, unpack
from ptqsr.quantizers import (
    KINDS,
    ActivationQuantizer,
    QuantizedWeight,
    UniformQuantizer,
    choosers,
    join,
)

FORMAT = "ptqsr"
VERSION = 2


def save(
    model: SRNetwork, path: str | Path, *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a calibrated network; `load` gives it back bit for bit.

    `provenance` is any JSON that a reader of the file should know. The file appears whole or not
    at all. Raises PtqsrError for a float network, or where the path cannot be written.
    """
    layers = _quantized(model)
    if isinstance(model, PatchWise):
        raise PtqsrError(f"{path}: the network runs by patches; save the one that it runs")
    if isinstance(model, DeployedNetwork):
        raise PtqsrError(
            f"{path}: the network is deployed; save the calibrated one, deploy it again"
        )
    if not layers:
        raise PtqsrError(f"{path}: the network is not quantized; calibrate it first")
    tensors: dict[str, torch.Tensor] = {}
    names: dict[ActivationQuantizer, str] = {}
    quantizers: dict[str, dict[str, Any]] = {}
    table = {}

    def keep(quantizer: ActivationQuantizer, key: str) -> None:
        if quantizer in names:
            return
        names[quantizer] = key
        quantizers[key] = {"kind": quantizer.kind, **quantizer.settings()}
        for part, tensor in quantizer.named_buffers():
            tensors[f"{key}.{part}"] = tensor

    for name, layer in layers.items():
        for position, quantizer in enumerate(layer.quantizer.parts):
            keep(quantizer, f"{name}.quantizer.{position}")
        tensors[f"{name}.weight_codes"] = pack(layer.weight_codes.cpu(), layer.weight_bits)
        tensors[f"{name}.weight_step"] = layer.weight_step
        tensors[f"{name}.weight_zero_point"] = layer.weight_zero_point
        table[name] = {
            "weight_bits": layer.weight_bits,
            "shape": list(layer.weight_codes.shape),
            "quantizers": [names[quantizer] for quantizer in layer.quantizer.parts],
        }
    elsewhere = []
    for name, where, placed_one in placed(model):
        assert isinstance(placed_one, ActivationQuantizer)
        keep(placed_one, f"{name}.{where}_quantizer")
        elsewhere.append([name, where, names[placed_one]])
    tensors |= _float_part(model, layers)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    manifest = json.dumps(
        {
            "architecture": model.architecture,
            "hyperparameters": model.hyperparameters,
            "colours": model.colours,
            "config": json.loads(model.calibration.to_json()),
            "layers": table,
            "quantizers": quantizers,
            **({"placed": elsewhere} if elsewhere else {}),
            "provenance": {
                "ptqsr": ptqsr.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                **(provenance or {}),
            },
        }
    )
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "manifest": manifest,
        "sha256": _digest(manifest, tensors),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def is_checkpoint(path: str | Path) -> bool:
    """Return whether a file is a checkpoint of ours, whole or not, rather than plain weights."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return a checkpoint's (manifest, tensors), checked against its digest."""
    if not Path(path).is_file():
        raise no_file(Path(path))
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: of absurd shapes
        raise PtqsrError(f"{path}: truncated or no ptqsr checkpoint ({one_line(error)})") from None
    if metadata.get("format") != FORMAT:
        raise PtqsrError(f"{path}: is no ptqsr checkpoint; make one with `ptqsr calibrate`")
    if metadata.get("version") != str(VERSION):
        version = one_line(metadata.get("version"))
        raise PtqsrError(
            f"{path}: has format version {version}, this ptqsr reads {VERSION}; "
            "use the ptqsr that wrote it, or calibrate again"
        )
    if _digest(metadata.get("manifest", ""), tensors) != metadata.get("sha256"):
        raise PtqsrError(f"{path}: was damaged or edited (its digest differs); calibrate again")
    try:
        manifest = json.loads(metadata.get("manifest", ""))
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise PtqsrError(f"{path}: its manifest is no JSON object; calibrate again")
    return manifest, tensors


def load(path: str | Path, *, module: SRNetwork | None = None) -> SRNetwork:
    """Return the network that `save` wrote, in evaluation mode, with bit-identical output.

    For a wrapped network of the user's own, `module` is that network with any weights, wrapped as
    it was for calibration; it stays as it is.
    """
    if module is not None:
        check_network(module)
    manifest, tensors = read(path)
    try:
        return _build(manifest, tensors, module)
    except PtqsrError as error:
        raise PtqsrError(f"{path}: {one_line(error, limit=300)}") from None
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        # A sound digest says that nothing changed since the file was made, not who made it.
        reason = one_line(f"{type(e).__name__}: {e}")
        raise PtqsrError(
            f"{path}: its manifest does not describe its tensors ({reason}); calibrate again"
        ) from None


def _build(
    manifest: dict[str, Any], tensors: Mapping[str, torch.Tensor], module: SRNetwork | None
) -> SRNetwork:
    """Return the network; errors of Python's own mean a manifest that `save` did not write."""
    # Before the network: it is then no larger than the file's tensors allow.
    weights = {
        name: _weight(tensors, name, row["weight_bits"], tuple(row["shape"]))
        for name, row in manifest["layers"].items()
    }
    if module is not None:
        for part in ("architecture", "hyperparameters", "colours"):
            if getattr(module, part) != manifest[part]:
                raise PtqsrError(
                    f"was made with {part} {manifest[part]}, the given network has "
                    f"{getattr(module, part)}; wrap it as for calibration"
                )
        network = copy.deepcopy(module)
    elif manifest["architecture"] == "wrapped":
        raise PtqsrError("holds a network of your own; pass it to ptqsr.load as `module`")
    else:
        # What the manifest asks for may be far larger than the file.
        held = sum(weight.codes.numel() for weight in weights.values())
        held += sum(tensor.numel() for tensor in tensors.values())
        with bounded(held, len(tensors)):
            network = rebuild(manifest["architecture"], manifest["hyperparameters"])
    made = {name.removesuffix(".conv") for name in weights} & dict(network.named_modules()).keys()
    as_convolutions(network, made)
    _check_fit(network, weights, tensors)
    if network.colours != manifest["colours"]:
        raise ValueError(f"colours {manifest['colours']} of a network on {network.colours}")
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, part = name.rpartition(".")
        parts.setdefault(key, {})[part] = tensor
    quantizers = {
        key: KINDS[settings["kind"]].restore(settings, parts[key])
        for key, settings in manifest["quantizers"].items()
    }
    joined: dict[tuple[str, ...], ActivationQuantizer] = {}
    swaps: dict[nn.Module, nn.Module] = {}
    convs = _convolutions(network)
    for name, row in manifest["layers"].items():
        keys = tuple(row["quantizers"])
        if keys not in joined:
            joined[keys] = join([quantizers[key] for key in keys])
        joined[keys].check(convs[name].in_channels)
        swaps[convs[name]] = FakeQuantConv2d(convs[name], joined[keys], weights[name])
    replace(network, swaps)
    for name, where, key in manifest.get("placed", ()):
        if type(quantizers[key]) is not UniformQuantizer:
            raise ValueError(f"{name}: a quantizer of kind {quantizers[key].kind} stands there")
        quantizers[key].check(0)  # of whatever channels
        place(network.get_submodule(name), where, quantizers[key])
    if choosers(network):
        sense(network)
    wanted = _float_part(network, _quantized(network))
    network.load_state_dict({name: tensors[name] for name in wanted}, strict=False)
    network.calibration = Config.from_json(json.dumps(manifest["config"]))
    return network.eval().requires_grad_(False)


def _weight(
    tensors: Mapping[str, torch.Tensor], name: str, bits: int, shape: tuple[int, ...]
) -> QuantizedWeight:
    """Return a layer's weight, checked in itself."""
    weight = QuantizedWeight(
        unpack(tensors[f"{name}.weight_codes"], bits, shape),
        tensors[f"{name}.weight_step"],
        tensors[f"{name}.weight_zero_point"],
        bits,
    )
    weight.check()
    return weight


def _check_fit(
    network: SRNetwork,
    weights: Mapping[str, QuantizedWeight],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Raise PtqsrError where the file is of another network than the given one."""
    convs = _convolutions(network)
    for name, weight in weights.items():
        if name not in convs:
            raise PtqsrError(f"layer {name} is not in the given network")
        _check_shape(name, weight.codes, convs[name].weight)
    for name, tensor in _float_part(network, {}).items():
        # Of a quantized layer the bias alone: what weight_norm and its like keep made its weight.
        if any(name.startswith(f"{layer}.") and name != f"{layer}.bias" for layer in weights):
            continue
        if name not in tensors:
            raise PtqsrError(f"lacks {name}, which the network has; calibrate again")
        _check_shape(name, tensors[name], tensor)
        kinds = {(t.is_floating_point(), t.is_complex()) for t in (tensors[name], tensor)}
        if len(kinds) > 1:
            raise PtqsrError(f"{name} is {tensors[name].dtype}, not {tensor.dtype}")
        if tensor.is_floating_point() and not tensors[name].isfinite().all():
            raise PtqsrError(f"{name} holds NaN or Inf; calibrate again with sound weights")


def _convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}


def _quantized(network: nn.Module) -> dict[str, FakeQuantConv2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, FakeQuantConv2d)}


def _check_shape(name: str, saved: torch.Tensor, ours: torch.Tensor) -> None:
    if saved.shape != ours.shape:
        raise PtqsrError(
            f"{name} has shape {tuple(saved.shape)}, in the given network {tuple(ours.shape)}"
        )


def _float_part(
    network: nn.Module, layers: Mapping[str, FakeQuantConv2d]
) -> dict[str, torch.Tensor]:
    """Return the state that no quantized layer packs: float layers, and biases.

    Of a module or tensor that stands under several names, the first name.
    """
    packed = {f"{n}.{part}" for n, layer in layers.items() for part, _ in layer.named_buffers()}
    packed |= {
        f"{name}.{where}_quantizer.{part}"
        for name, where, quantizer in placed(network)
        for part, _ in quantizer.named_buffers()
    }
    first_names = {name for name, _ in network.named_modules()}
    part: dict[str, torch.Tensor] = {}
    seen = set()
    for name, tensor in network.state_dict().items():
        # Tensors without memory (on "meta") have no place, and no twin.
        place = (tensor.data_ptr() or name, tensor.shape)
        if name.rpartition(".")[0] in first_names and name not in packed and place not in seen:
            part[name] = tensor
            seen.add(place)
    return part


def _digest(manifest: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(manifest.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
