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
from limbeck.integer.program import WHITE, Input, Program
from limbeck.integer.survey import survey, uses
from limbeck.runs import OPEN_SEAL, SEAL, read_sealed, sealed, write_bytes

VERSION = 2
_KEY = "limbeck.program"
_HEADER_LIMIT = 1 << 26  # bytes
_Tensors = dict[str, NDArray[Any]]


def save(program: Program, path: str | Path) -> None:
    """Write the program to one file, whole or not at all; equal programs give equal bytes."""
    packed = {key: list(program.tensors[key].shape) for key in _of_four_bits(program)}
    tensors = {key: _packed(table) if key in packed else _smallest(table) for key, table in program.tensors.items()}
    header = {"version": VERSION, "program": _encode(program), "packed": packed, SEAL: OPEN_SEAL}
    text = json.dumps(header, ensure_ascii=False, sort_keys=True)
    write_bytes(Path(path), sealed(serialise(tensors, {_KEY: text})))


def load(path: str | Path) -> Program:
    """Return the program in the file, checked by `survey`; InputError where it is none, broken or hostile."""
    header, tensors = _read(Path(path))
    try:
        parts = _parts(header["program"], Program, "program", without=("tensors",))
        program = Program(**parts, tensors=_tables(header["packed"], tensors))
        survey(program)
        if header["packed"].keys() != _of_four_bits(program):
            raise InputError("its packed tensors must be its 4-bit weights")
    except (InputError, RecursionError) as error:
        raise InputError(f"{path} is not a usable program: {error}") from error
    return program


def _read(path: Path) -> tuple[dict[str, Any], _Tensors]:
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
    if not isinstance(header, dict) or "version" not in header:
        raise InputError(f"{path} is not a program file; `limbeck quantize` writes them")
    if header["version"] == 1:
        raise InputError(f"{path} is of Limbeck 0.1 (version 1); quantize its run again with `limbeck quantize`")
    if header["version"] != VERSION:
        raise InputError(f"{path} has version {header['version']}; this Limbeck reads version {VERSION}")
    if header.keys() - {SEAL} != {"version", "program", "packed"}:
        raise InputError(f"{path} is not a program file; `limbeck quantize` writes them")
    return header, tensors


def _of_four_bits(program: Program) -> set[str]:
    return {use.key for node in program.nodes for use in uses(node.op) if use.bits == 4}


def _encode(value: Any) -> Any:  # noqa: ANN401 - whatever a program holds
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if is_dataclass(value):
        names = [f.name for f in fields(value) if f.name != "tensors"]
        return {"kind": type(value).__name__, **{name: _encode(getattr(value, name)) for name in names}}
    return value


def _smallest(table: Ints) -> NDArray[Any]:
    low, high = int(table.min()), int(table.max())
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(table.astype(kind))
    return np.ascontiguousarray(table)


def _packed(table: Ints) -> NDArray[np.uint8]:
    """Return 4-bit integers, two per byte, the first in the low half; after an odd number of them comes a zero."""
    halves = np.pad(table.reshape(-1), (0, table.size % 2)).astype(np.uint8) & 15
    low, high = halves[::2], halves[1::2]
    return low + 16 * high


def _tables(packed: Any, tensors: _Tensors) -> dict[str, Ints]:  # noqa: ANN401 - not looked at yet
    """Return all tensors as int64; InputError where one is no table of integers, or not as large as it should be."""
    if not isinstance(packed, dict):
        raise InputError("its packed tensors are not named")
    for key, table in tensors.items():
        if table.dtype.kind != ("u" if key in packed else "i") or not table.size:
            raise InputError(f"its tensor {key} is no table of integers")
    for key, shape in packed.items():
        if key not in tensors or not _fits(shape, tensors[key]):
            raise InputError(f"there is no tensor {key} of 4-bit integers {str(shape)[:40]}")
    return {
        key: _unpacked(table, packed[key]) if key in packed else table.astype(np.int64)
        for key, table in tensors.items()
    }


def _fits(shape: Any, table: NDArray[Any]) -> bool:  # noqa: ANN401
    """Return whether `table` holds packed integers of this shape."""
    if not isinstance(shape, list) or not all(type(side) is int and side > 0 for side in shape):
        return False
    return table.dtype == np.uint8 and 0 < len(shape) <= 4 and table.shape == (-(-math.prod(shape) // 2),)


def _unpacked(packed: NDArray[np.uint8], shape: list[int]) -> Ints:
    halves = np.stack([packed & 15, packed >> 4], 1).reshape(-1)[: math.prod(shape)].astype(np.int64)
    return np.where(halves > 7, halves - 16, halves).reshape(shape)


def _decode(value: Any, hint: Any, path: str) -> Any:  # noqa: ANN401
    """Return value as what the type hint says, or raise InputError: nothing else passes."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return None if value is None and type(None) in arguments else _dataclass(value, arguments, path)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_decode(v, kind, f"{path}.{i}") for i, (v, kind) in enumerate(zip(value, kinds, strict=True)))
    if is_dataclass(hint):
        return _dataclass(value, (hint,), path)
    if type(value) is (origin or hint) or (origin is Literal and value in arguments):
        return value
    raise InputError(f"{path} is {str(value)[:40]!r}, which can't be there")


def _dataclass(value: Any, allowed: tuple[Any, ...], path: str) -> Any:  # noqa: ANN401
    named: dict[str, type[Any]] = {kind.__name__: kind for kind in allowed if kind is not type(None)}
    kind = named.get(str(value.get("kind"))) if isinstance(value, dict) else None
    if kind is None:
        raise InputError(f"{path} is not {' or '.join(named)}")
    return kind(**_parts(value, kind, path))


def _parts(value: Any, kind: type[Any], path: str, without: tuple[str, ...] = ()) -> dict[str, Any]:  # noqa: ANN401
    """Return the fields of an object of this kind."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in without}
    if kind is Input and isinstance(value, dict):  # as it was before there was another
        value = {"white": WHITE, **value}
    if not isinstance(value, dict) or value.keys() != {"kind", *hints} or value["kind"] != kind.__name__:
        raise InputError(f"{path} must have exactly kind, {', '.join(hints)}")
    return {name: _decode(value[name], hint, f"{path}.{name}") for name, hint in hints.items()}
