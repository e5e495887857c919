"""Program files: safetensors with a JSON header. Numpy and safetensors only; nothing in them is executed."""

import json
import math
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from limbeck.errors import InputError
from limbeck.integer.fixed import Ints
from limbeck.integer.program import Conv, Depthwise, Pointwise, Program
from limbeck.integer.survey import survey
from limbeck.runs import OPEN_SEAL, SEAL, read_sealed, sealed, write_bytes

VERSION = 1
_KEY = "limbeck.program"
_HEADER_LIMIT = 1 << 24  # bytes
_Tensors = dict[str, NDArray[Any]]


def save(program: Program, path: str | Path) -> None:
    """Write the program to one file, whole or not at all; equal programs give equal bytes."""
    tensors: _Tensors = {}
    header = {"version": VERSION, "program": _encode(program, "", tensors), SEAL: OPEN_SEAL}
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    write_bytes(Path(path), sealed(serialise(tensors, {_KEY: text})))


def load(path: str | Path) -> Program:
    """Return the program in the file, checked by `survey`; InputError where it is none, broken or hostile."""
    header, tensors = _read(Path(path))
    try:
        program: Program = _decode(header, Program, tensors, "program")
        if tensors:
            raise InputError(f"it holds a tensor that no layer uses, {next(iter(tensors))}")
        survey(program)
    except (InputError, RecursionError) as error:
        raise InputError(f"{path} is not a usable program: {error}") from error
    return program


def _read(path: Path) -> tuple[Any, _Tensors]:
    read_sealed(path)
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY, "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        header = json.loads(text) if 0 < len(text) <= _HEADER_LIMIT else {}
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not a program file: {error}") from error
    if not isinstance(header, dict) or header.keys() - {SEAL} != {"version", "program"}:
        raise InputError(f"{path} is not a program file; `limbeck quantize` writes them")
    if header["version"] != VERSION:
        raise InputError(f"{path} has version {header['version']}; this Limbeck reads version {VERSION}")
    return header["program"], tensors


def _encode(value: Any, path: str, tensors: _Tensors) -> Any:  # noqa: ANN401 - whatever a program holds
    match value:
        case np.ndarray():
            tensors[path] = _smallest(value)
            return path
        case tuple():
            return [_encode(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]
        case Conv() | Depthwise() | Pointwise() if value.weight_bits == 4:
            tensors[f"{path}.weight"] = _packed(value.weight)
            packed = {"int4": f"{path}.weight", "shape": list(value.weight.shape)}
            return {**_object(value, path, tensors, ("weight",)), "weight": packed}
        case _ if is_dataclass(value):
            return _object(value, path, tensors)
        case _:
            return value


def _object(value: Any, path: str, tensors: _Tensors, without: tuple[str, ...] = ()) -> dict[str, Any]:  # noqa: ANN401
    names = [f.name for f in fields(value) if f.name not in without]
    inner = {name: _encode(getattr(value, name), f"{path}.{name}", tensors) for name in names}
    return {"kind": type(value).__name__, **inner}


def _packed(table: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return 4-bit integers two a byte, the first in the low half; an odd one out has a zero beside it."""
    halves = np.pad(table.reshape(-1), (0, table.size % 2)).astype(np.uint8) & 15
    low, high = halves[::2], halves[1::2]
    return low + 16 * high


def _unpacked(value: dict[str, Any], tensors: _Tensors, path: str) -> NDArray[np.int64]:
    """Return the table that was packed; InputError where it has not the size that is said."""
    name, shape = value.get("int4"), value.get("shape")
    packed = tensors.pop(name, None) if isinstance(name, str) else None
    sides = shape if isinstance(shape, list) and all(type(side) is int and side > 0 for side in shape) else []
    count = math.prod(sides)
    if packed is None or packed.dtype != np.uint8 or not 0 < len(sides) <= 4 or packed.shape != (-(-count // 2),):
        raise InputError(f"{path} has no table of 4-bit integers of its own")
    halves = np.stack([packed & 15, packed >> 4], 1).reshape(-1)[:count].astype(np.int64)
    return np.where(halves > 7, halves - 16, halves).reshape(sides)


def _smallest(table: NDArray[np.int64]) -> NDArray[Any]:
    low, high = int(table.min()), int(table.max())
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(table.astype(kind))
    return np.ascontiguousarray(table)


def _decode(value: Any, hint: Any, tensors: _Tensors, path: str) -> Any:  # noqa: ANN401
    """Return value as what the type hint says, or raise InputError: nothing else passes."""
    if hint == Ints:
        return _tensor(value, tensors, path)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return None if value is None and type(None) in arguments else _dataclass(value, arguments, tensors, path)
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(v, arguments[0], tensors, f"{path}.{i}") for i, v in enumerate(value))
    if is_dataclass(hint):
        return _dataclass(value, (hint,), tensors, path)
    if type(value) is (origin or hint) or (origin is Literal and value in arguments):
        return value
    raise InputError(f"{path} is {str(value)[:40]!r}, which can't be there")


def _tensor(name: Any, tensors: _Tensors, path: str) -> NDArray[np.int64]:  # noqa: ANN401
    if isinstance(name, dict):
        return _unpacked(name, tensors, path)
    table = tensors.pop(name, None) if isinstance(name, str) else None
    if table is None or table.dtype.kind != "i" or not table.size:
        raise InputError(f"{path} has no table of integers of its own")
    return table.astype(np.int64)


def _dataclass(value: Any, allowed: tuple[Any, ...], tensors: _Tensors, path: str) -> Any:  # noqa: ANN401
    named: dict[str, type[Any]] = {kind.__name__: kind for kind in allowed if kind is not type(None)}
    kind = named.get(str(value.get("kind"))) if isinstance(value, dict) else None
    if kind is None:
        raise InputError(f"{path} is not {' or '.join(named)}")
    hints = get_type_hints(kind)
    if value.keys() != {"kind", *hints}:
        raise InputError(f"{path} must have exactly {', '.join(hints)}")
    return kind(**{name: _decode(value[name], hint, tensors, f"{path}.{name}") for name, hint in hints.items()})
