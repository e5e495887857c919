"""A net's forward as a flat list of tensor operations, recorded once; its constants are computed from live weights."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.errors import InputError, first_line


class LowerError(InputError):
    """The net can't be made a program: which operation, in which module, and what can be done."""


@dataclass(frozen=True)
class Ref:
    """The result of a call, by its number."""

    number: int


@dataclass(frozen=True)
class Call:
    """One operation of ATen, or the image ("image"), or a tensor of the net ("get")."""

    op: str  # as "convolution"
    arguments: dict[str, Any]  # by the names in ATen's schema, defaults too; a Ref where a map or constant goes in
    shape: tuple[int, ...]  # of its result, for one image
    path: str  # of the module that calls it; "[n]" counts from 0 where a module runs again
    leaf: bool  # whether that module has no modules of its own
    constant: bool  # whether it is the same for all images
    function: Any = None  # the OpOverload


@dataclass(frozen=True)
class Trace:
    """The calls of one forward pass, without those whose results are not used; the last gives the output."""

    calls: dict[int, Call]  # by number, in their order
    output: Ref

    def uses(self) -> Counter[int]:
        """Return how many arguments each call is, the output counting as one."""
        inner = (ref.number for call in self.calls.values() for ref in _refs(call.arguments))
        return Counter([*inner, self.output.number])


def trace(net: nn.Module, shape: tuple[int, int, int]) -> Trace:
    """Return the operations of `net` in evaluation mode, on an image [channels, height, width].

    Nothing is computed: tensors have shapes alone. LowerError where the net's path depends on values.
    """
    modes = {module: module.training for module in net.modules()}
    recorder = _Recorder()
    values = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    like = next(iter(net.parameters()), torch.empty(0))
    image = torch.empty(1, *shape, dtype=like.dtype, device="meta")
    stand_ins = {name: recorder.known(value, name) for name, value in values.items()}
    recorder.add(image, "image", {}, constant=False)
    try:
        with torch.no_grad(), recorder.paths(net.eval()), recorder:
            output = functional_call(net, stand_ins, (image,))
    except LowerError:
        raise
    except Exception as error:  # a net's own code may raise anything
        where = recorder.where(recorder.stack)[0] or "the net"
        raise LowerError(
            f"{where} can't be traced ({first_line(error)}); its path must not depend on the image's values"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    found = recorder.numbers.get(id(output)) if isinstance(output, Tensor) else None
    if found is None:
        raise LowerError("the net's output is not one tensor; only classifiers can be lowered")
    return _needed(recorder, found)


def constants(calls: dict[int, Call], net: nn.Module) -> dict[int, Tensor]:
    """Return the value of every constant call, from the net's tensors as they are now; gradients flow."""
    named = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    like = next(iter(named.values()))
    found: dict[int, Tensor] = {}
    for number, call in calls.items():
        if call.op == "get":
            found[number] = named[call.arguments["name"]]
        elif call.op == "literal":
            found[number] = call.arguments["value"].to(like.device)
        elif call.constant:
            found[number] = _replayed(call, found, like)
    return found


def _replayed(call: Call, found: dict[int, Tensor], like: Tensor) -> Tensor:
    if call.op in _FACTORIES:
        value = call.arguments.get("fill_value", 0.0 if "zeros" in call.op else 1.0)
        return torch.full(call.shape, float(value), dtype=like.dtype, device=like.device)
    return apply_call(call, lambda ref: found[ref.number], like.device)


def apply_call(call: Call, value: Callable[[Ref], Tensor], device: torch.device | None = None) -> Tensor:
    """Return what the call's operation gives where `value` returns the tensor of each Ref."""
    given = {name: _mapped(v, value) for name, v in call.arguments.items()}
    schema = call.function._schema.arguments
    given |= {"device": device} if "device" in given else {}
    args = [given[a.name] for a in schema if not a.kwarg_only]
    made = call.function(*args, **{a.name: given[a.name] for a in schema if a.kwarg_only})
    return made if isinstance(made, Tensor) else made[0]


_FACTORIES = frozenset({"new_ones", "new_zeros", "new_full", "ones_like", "zeros_like", "full_like"})
_SAME = frozenset({"detach", "alias", "clone", "lift_fresh", "_to_copy"})  # the values are those of its input
_FILLED = frozenset({"ones", "zeros", "full"})


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: dict[int, Call] = {}
        self.numbers: dict[int, int] = {}  # by id of a tensor
        self.kept: list[Tensor] = []  # so that ids stay theirs
        self.same: dict[Any, int] = {}
        self.stack: tuple[tuple[str, int, bool], ...] = ()  # modules that run: name, which call of it, whether a leaf
        self.stacks: dict[int, tuple[tuple[str, int, bool], ...]] = {}  # by call
        self.ran: Counter[str] = Counter()

    def known(self, value: Tensor, name: str) -> Tensor:
        """Return a stand-in for a tensor of the net."""
        made = torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)
        self.add(made, "get", {"name": name}, constant=True)
        return made

    def add(
        self,
        made: Tensor,
        op: str,
        arguments: dict[str, Any],
        *,
        constant: bool,
        function: Any = None,  # noqa: ANN401
    ) -> None:
        """Record a call, or find that it was made before."""
        key = (op, str(getattr(function, "_overloadname", "")), repr(arguments), tuple(made.shape), made.dtype)
        number = self.same.get(key, len(self.calls)) if op != "literal" else len(self.calls)
        if number == len(self.calls):
            self.calls[number] = Call(op, arguments, tuple(made.shape), "", True, constant, function)
            self.stacks[number] = self.stack
            self.same[key] = number
        self.numbers[id(made)] = number
        self.kept.append(made)

    def where(self, stack: tuple[tuple[str, int, bool], ...]) -> tuple[str, bool]:
        """Return the path of the module that runs, and whether it has no modules of its own."""
        if not stack:
            return "", True
        name, _, leaf = stack[-1]
        again = next(((outer, count) for outer, count, _ in stack if self.ran[outer] > 1), None)
        return (name if again is None else f"{again[0]}[{again[1]}]{name.removeprefix(again[0])}"), leaf

    @contextmanager
    def paths(self, net: nn.Module) -> Iterator[None]:
        """Know which module runs."""
        hooks = []
        for name, module in net.named_modules():
            leaf = not any(True for _ in module.children())

            def enter(_module: nn.Module, _args: Any, name: str = name, leaf: bool = leaf) -> None:  # noqa: ANN401
                self.stack = (*self.stack, (name, self.ran[name], leaf))
                self.ran[name] += 1

            def leave(_module: nn.Module, _args: Any, _made: Any) -> None:  # noqa: ANN401
                self.stack = self.stack[:-1]

            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        made = func(*args, **(kwargs or {}))
        out = made[0] if isinstance(made, tuple) and made else made
        if not isinstance(out, Tensor):
            return made
        function = _functional(func)
        given = {a.name: a.default_value for a in func._schema.arguments}
        given |= {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | (kwargs or {})
        arguments = {name: _mapped(value, None, self._ref) for name, value in given.items()}
        op = function._schema.name.removeprefix("aten::")
        refs = list(_refs(arguments))
        if op in _SAME and out.dtype.is_floating_point and len(refs) == 1:
            self.numbers[id(out)] = refs[0].number
            self.kept.append(out)
            return made
        constant = op in _FACTORIES or op in _FILLED or all(self.calls[ref.number].constant for ref in refs)
        if op in _FACTORIES | _FILLED:
            arguments = {k: v for k, v in arguments.items() if k == "fill_value"}
            op = op if op in _FACTORIES else f"new_{op}"
        self.add(out, op, arguments, constant=constant, function=function)
        return made

    def _ref(self, value: Tensor) -> Ref:
        if id(value) not in self.numbers:
            self.add(value, "literal", {"value": value.detach()}, constant=True)
        return Ref(self.numbers[id(value)])


def _functional(func: Any) -> Any:  # noqa: ANN401 - an OpOverload
    """Return the operation that gives what `func` writes in place."""
    name = func._schema.name.removeprefix("aten::")
    if not name.endswith("_") or name.endswith("__"):
        return func
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, func._overloadname, func) if packet is not None else func


def _mapped(value: Any, of_ref: Any, of_tensor: Any = None) -> Any:  # noqa: ANN401
    """Return value with each Ref (or tensor) in it replaced."""
    match value:
        case Ref():
            return of_ref(value)
        case Tensor() if of_tensor is not None:
            return of_tensor(value)
        case list() | tuple():
            return [_mapped(item, of_ref, of_tensor) for item in value]
        case _:
            return value


def _refs(arguments: Any) -> Iterator[Ref]:  # noqa: ANN401
    match arguments:
        case Ref():
            yield arguments
        case dict():
            for value in arguments.values():
                yield from _refs(value)
        case list() | tuple():
            for value in arguments:
                yield from _refs(value)


def _needed(recorder: _Recorder, output: int) -> Trace:
    """Return the trace of what the output needs."""
    wanted, left = set(), [output]
    while left:
        number = left.pop()
        if number not in wanted:
            wanted.add(number)
            left += [ref.number for ref in _refs(recorder.calls[number].arguments)]
    calls = {}
    for number in sorted(wanted):
        path, leaf = recorder.where(recorder.stacks[number])
        calls[number] = replace(recorder.calls[number], path=path, leaf=leaf)
    return Trace(calls, Ref(output))
