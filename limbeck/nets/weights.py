"""Weight files: read without running anything in them, put into a net whole or not at all."""

import argparse
import hashlib
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from limbeck.errors import InputError, first_line

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")
_WRAPPINGS = ("state_dict_ema", "model_ema", "state_dict", "model")  # averaged weights first: they are the result
_PREFIXES = ("module.", "_orig_mod.", "timm_model.")
_ATTRIBUTES = ("model.", "net.", "network.", "module.", "backbone.")  # under which a LightningModule holds its net
_LIGHTNING = "pytorch-lightning_version"  # a key of its checkpoints
_PLAIN: list[
    Any
] = [  # classes without behaviour in the checkpoints of timm's train.py and of Lightning: arguments by name
    argparse.Namespace,
    *(
        (dict, f"{package}.AttributeDict")
        for package in (
            "lightning_fabric.utilities.data",
            "lightning.fabric.utilities.data",
            "pytorch_lightning.utilities.parsing",
            "lightning.pytorch.utilities.parsing",
        )
    ),
]


def pack(net: nn.Module) -> bytes:
    """Return the net's parameters and buffers as a safetensors file; equal weights give equal bytes."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in net.state_dict().items()}
    return safetensors.torch.save(state)


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def unpack(data: bytes, where: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file's bytes; InputError where they are none."""
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{where} is not a whole safetensors file: {error}") from error


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return a file's tensors by name and the file's SHA-256.

    Safetensors, or what torch.save wrote, read with weights_only, so that nothing in it runs. The usual wrappings
    (`state_dict`, `model`, `model_ema`, ...) and prefixes (`module.`, `_orig_mod.`) are taken off; of a checkpoint of
    Lightning, the net in it is taken, without losses and metrics. InputError for a file that holds anything else.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is no weight file that is known here; it should end in one of {', '.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if path.suffix == ".safetensors":
        return _unprefixed(unpack(data, path)), digest(data)
    return _unprefixed(_unwrapped(_unpickled(path), path)), digest(data)


def _unpickled(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file may fail anywhere in the reader
        strange = re.search(r"GLOBAL ([\w.]+)", str(error))  # torch would advise to run what is in the file
        plain = "only weights are read; save the net's state_dict() alone"
        reason = f"it holds a {strange[1]}, and {plain}" if strange else first_line(error)
        raise InputError(f"{path} does not hold plain weights and was not loaded: {reason}") from error


def _unwrapped(found: Any, path: Path) -> dict[str, Tensor]:  # noqa: ANN401 - whatever the file holds
    lightning = isinstance(found, dict) and _LIGHTNING in found
    for key in _WRAPPINGS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds no weights by name, but {type(found).__name__}; save the net's state_dict()")
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"{path} holds more than weights ({str(key)[:60]!r}); save the net's state_dict()")
    held = next((own for own in _ATTRIBUTES if any(key.startswith(own) for key in found)), "") if lightning else ""
    return {key.removeprefix(held): value for key, value in found.items() if key.startswith(held)}


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def fill(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Copy `state` into `net`, all of it into all of it; InputError names up to five keys that do not fit.

    A missing head would silently be a random head, so nothing is ever skipped.
    """
    own = net.state_dict()
    faults = [f"{key} is missing" for key in own if key not in state]
    faults += [f"{key} is unknown" for key in state if key not in own]
    faults += [_fault(key, state[key], own[key]) for key in own if key in state and not _fits(state[key], own[key])]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise InputError(f"the weights in {where} do not fit the net: {'; '.join(faults[:5])}{more}")
    if bad := [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise InputError(f"the weights in {where} hold values that are not finite, in {', '.join(bad[:5])}")
    put(net, state)


def put(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy `state` into `net`, key by key. Some of torchvision's nets ask which version of them wrote it, which plain
    tensors don't tell: it fits, so it was this one."""
    versioned = OrderedDict(state)
    versioned._metadata = net.state_dict()._metadata  # type: ignore[attr-defined]
    net.load_state_dict(versioned, strict=True)


def _fits(value: Tensor, own: Tensor) -> bool:
    return value.shape == own.shape and value.is_floating_point() == own.is_floating_point()


def _fault(key: str, value: Tensor, own: Tensor) -> str:
    if value.shape == own.shape:
        return f"{key} is {value.dtype}, not {own.dtype}"
    return f"{key} is {tuple(value.shape)}, not {tuple(own.shape)}"
