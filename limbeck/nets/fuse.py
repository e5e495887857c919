"""Frozen nets on x86 CPUs: each convolution with its BatchNorm, sum and activation in one pass through memory."""

import operator
from typing import cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval

_ACTIVATIONS: dict[type, str] = {nn.ReLU: "relu", nn.SiLU: "swish", nn.Hardswish: "hardswish"}  # as oneDNN calls them
_SUMS = (operator.add, operator.iadd, torch.add)
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)
_FOLDED = (nn.Conv2d, Conv2dSame)  # exactly: other subclasses compute their weights anew at every call
TOLERANCE = 1e-3  # of the largest output, float32; what folding a BatchNorm costs is some 1e-6


def cpu_features() -> dict[str, object]:
    """Return the processor's features by torch's names; from torch before 2.11 only those that Limbeck looks for."""
    if hasattr(torch.cpu, "get_capabilities"):
        return cast(dict[str, object], torch.cpu.get_capabilities())
    widest = torch.backends.cpu.get_cpu_capability()
    half = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return {"avx2": widest in ("AVX2", "AVX512"), "avx512_f": widest == "AVX512", "avx512_bf16": half}


def can_fuse(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this machine has what a fused net of `dtype` uses: oneDNN and AVX2, for bfloat16 some of AVX-512."""
    if not torch._C._has_mkldnn or not cpu_features().get("avx2"):
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuse(net: nn.Module, example: Tensor) -> nn.Module:
    """Return a net with `net`'s outputs, for inference on a CPU alone, in fewer passes through memory.

    `net` is in evaluation mode and float32. The result is made of its parts, for use in its place, and may be moved to
    bfloat16. `net` itself is returned where it can't be traced (its path depends on its input) or where the two differ
    on `example`, one input of it.
    """
    with torch.no_grad():
        expected = net(example)
        try:
            fused = _fused(net, example)
            worst = (fused(example) - expected).abs().max()
        except Exception:  # tracing runs the net's own code on stand-ins for tensors: anything may be raised
            return net
        return fused if worst <= TOLERANCE * expected.abs().max() else net


def _fused(net: nn.Module, example: Tensor) -> fx.GraphModule:
    traced = fx.GraphModule(net, _Tracer().trace(net))
    ShapeProp(traced).propagate(example)
    for node in list(traced.graph.nodes):
        if type(_module(traced, node)) in _FOLDED:
            _fuse_from(traced, node)
    traced.graph.eliminate_dead_code()
    for node in traced.graph.nodes:  # now that every node has its final place
        if len(node.args) == 2 and isinstance(module := _module(traced, node), _Convolution):
            module.in_place = _may_overwrite(traced, node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


class _Tracer(fx.Tracer):
    """Keeps convolutions and BatchNorms whole, timm's own too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _fuse_from(traced: fx.GraphModule, node: fx.Node) -> None:
    """Replace a convolution's node and what follows it, BatchNorm, sum and activation, as far as they can be fused."""
    conv, last, post = cast(nn.Conv2d, traced.get_submodule(str(node.target))), node, "none"
    norm = _next_module(traced, last)
    if isinstance(norm, nn.BatchNorm2d) and type(norm) in _NORMS and norm.running_mean is not None:
        activation = getattr(norm, "act", nn.Identity())
        if type(activation) not in (nn.Identity, *_ACTIVATIONS):
            return
        conv, last = fuse_conv_bn_eval(conv, norm), next(iter(last.users))
        post = _ACTIVATIONS.get(type(activation), "none")
    other = None
    if type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
        other = _summand(last) if post == "none" else None
        if other is not None:
            last = next(iter(last.users))
        after = _ACTIVATIONS.get(type(_next_module(traced, last)), "none") if post == "none" else "none"
        if after != "none" and (other is None or after == "relu"):  # oneDNN's sums know no other
            post, last = after, next(iter(last.users))
        replacement: nn.Module = _Convolution(conv, post)
    elif post == "none" and last is not node:
        replacement = conv
    else:
        return
    name = f"fused_{node.name}"
    traced.add_submodule(name, replacement)
    with traced.graph.inserting_before(last):
        fused = traced.graph.call_module(name, (node.args[0],) if other is None else (node.args[0], other))
    fused.meta = last.meta
    last.replace_all_uses_with(fused)


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _next_module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that alone takes what `node` gives; None if there is no such."""
    return _module(traced, next(iter(node.users))) if len(node.users) == 1 else None


def _summand(node: fx.Node) -> fx.Node | None:
    """Return what is added, shape for shape, to what `node` gives; None if nothing is, or if it is used elsewhere."""
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is None or user.target not in _SUMS or user.kwargs or len(user.args) != 2:
        return None
    (other,) = [a for a in user.args if a is not node] or [None]
    same = isinstance(other, fx.Node) and _shape(other) == _shape(node)
    return cast(fx.Node, other) if same else None


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    meta = node.meta.get("tensor_meta")
    return tuple(meta.shape) if meta is not None else None


def _may_overwrite(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a convolution may write its result over its summand: nothing reads that later, or as it writes."""
    source, other = cast(tuple[fx.Node, fx.Node], node.args)
    around = [other, *other.users]  # convolutions give no views
    plain = all(isinstance(_module(traced, n), nn.Conv2d | _Convolution) for n in around)
    return plain and source is not other and all(user <= node for user in other.users)


class _Convolution(nn.Module):
    """A convolution, plus `other`, then an activation: one call of oneDNN, which keeps weights in its own order."""

    def __init__(self, conv: nn.Conv2d, post: str) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.post = post
        self.in_place = False  # whether the result may take the place of `other`
        self.packed: Tensor | None = None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        if self.packed is None or self.packed.dtype != self.weight.dtype:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(x.shape))
        own = (self.packed, self.bias, *self.geometry)
        if other is None:
            return cast(Tensor, torch.ops.mkldnn._convolution_pointwise(x, *own, self.post, [], ""))
        after: tuple[object, ...] = ("add", 1.0, None if self.post == "none" else self.post, [], "")
        if self.in_place:
            return cast(Tensor, torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *own, *after))
        return cast(Tensor, torch.ops.mkldnn._convolution_pointwise.binary(x, other, *own, *after))
