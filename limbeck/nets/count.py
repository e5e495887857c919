"""What a net costs for one image: parameters, multiply-accumulates, activations, layer by layer."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Layer:
    """A module that holds parameters; the figures are of one image, summed over all executions."""

    name: str
    kind: str  # its class
    output: tuple[int, ...]  # of one execution, without the batch: (channels, height, width); () if never executed
    executions: int
    parameters: int  # a tensor that layers share counts in the first of them
    macs: int  # multiply-accumulates of convolutions and linear layers
    activations: int  # values that convolutions and linear layers write; norms and ReLUs fold into these


@dataclass(frozen=True)
class Table:
    """A net's layers in the order of its modules, and their totals."""

    layers: tuple[Layer, ...]
    elsewhere: int  # MACs outside convolutions and linear layers: attention's products of activations

    @property
    def parameters(self) -> int:
        """Trained values; BatchNorm's statistics are none."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image; 2 FLOPs each."""
        return sum(layer.macs for layer in self.layers) + self.elsewhere

    @property
    def activations(self) -> int:
        """Values that convolutions and linear layers write for one image."""
        return sum(layer.activations for layer in self.layers)

    @property
    def largest_map(self) -> int:
        """Values in the largest output of a layer."""
        return max((prod(layer.output) for layer in self.layers if layer.output), default=0)

    def part(self, prefix: str) -> "Table":
        """Return the table of the layers whose names begin with `prefix`."""
        return Table(tuple(layer for layer in self.layers if layer.name.startswith(prefix)), 0)


def bytes_of(values: int) -> dict[str, int]:
    """Return the bytes that this many values take in each number format, scales and tables not counted."""
    return {"float32": 4 * values, "int16": 2 * values, "int8": values}


def _macs(module: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Return the multiply-accumulates of one execution."""
    match module:
        case _ConvTransposeNd():
            return inputs.numel() * module.weight[0].numel()
        case _ConvNd():
            return output.numel() * module.weight[0].numel()
        case nn.Linear():
            return output.numel() * module.in_features
        case _:
            return 0


def count(model: nn.Module, shape: tuple[int, ...]) -> Table:
    """Return what `model` costs for one image of `shape` (channels, height, width).

    Runs the model once, in evaluation mode, on zeros; its mode is afterwards as before. Products of activations
    (attention) are what torch's flop counter sees beyond the layers.
    """
    seen: dict[nn.Module, list[tuple[tuple[int, ...], int]]] = {}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 - any module's
        if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
            seen.setdefault(module, []).append((tuple(output.shape[1:]), _macs(module, inputs[0], output)))

    holders = {name: m for name, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None}
    hooks: list[RemovableHandle] = [module.register_forward_hook(record) for module in holders.values()]
    modes = {module: module.training for module in model.modules()}
    first = next(model.parameters())
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
            model.eval()(first.new_zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    counted: set[nn.Parameter] = set()
    layers = tuple(_layer(name, module, seen.get(module, []), counted) for name, module in holders.items())
    return Table(layers, flops.get_total_flops() // 2 - sum(layer.macs for layer in layers))


def _layer(
    name: str,
    module: nn.Module,
    executions: list[tuple[tuple[int, ...], int]],
    counted: set[nn.Parameter],
) -> Layer:
    """Return the module's row; parameters in `counted` are left out, the others join it."""
    own = set(module.parameters(recurse=False)) - counted
    counted |= own
    writes = isinstance(module, _ConvNd | nn.Linear)
    return Layer(
        name or "itself",
        type(module).__name__,
        output=executions[-1][0] if executions else (),
        executions=len(executions),
        parameters=sum(parameter.numel() for parameter in own),
        macs=sum(macs for _, macs in executions),
        activations=sum(prod(shape) for shape, _ in executions) if writes else 0,
    )
