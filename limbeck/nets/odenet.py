"""ResNet-N, ODENet-N, rODENet-N and dsODENet-N, registered with timm when this module is imported.

"dsODENet", arXiv 2107.12824, and "ODENet/rODENet", arXiv 2012.15465: the stacked residual blocks of a CIFAR
ResNet (N = 6n + 2, widths w, 2w, 4w) become one ODE block per stage, whose weights are used in every step. What
is published of dsODENet does not fix its layers: here it is ODENet with depthwise separable convolutions.
"""

import copy
import math
import re
from collections import OrderedDict
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.classifier import ClassifierHead
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.nets.norm import BatchNorm, StepBatchNorm
from limbeck.nets.ode import Solver, solve, stages, times
from limbeck.nets.registered import Registered, configuration

Time = Literal["concat", "none"]
Dsc = Literal["none", "ode", "all"]
Stem = Literal["3x3", "3x3/2", "7x7"]
DEPTHS = (20, 32, 44, 56)


class Stage(NamedTuple):
    """How often a stage's unstrided block is executed: by one ODE block or a stack of plain ones."""

    executions: int
    ode: bool


def _conv(inputs: int, outputs: int, *, stride: int = 1, separable: bool = False) -> nn.Module:
    """Return a 3x3 convolution without bias, dense or as depthwise then pointwise."""
    if not separable:
        return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))


class TimedConv(nn.Module):
    """The convolution of z with a channel of constant t appended: space(z) + t · time(1).

    t is the same at every pixel, so its part is one map [1, C, H, W], not a plane of every image: function
    and weights are those of concatenation, without maps of C + 1 channels. Without time, space(z) alone.
    """

    def __init__(self, channels: int, *, time: bool, separable: bool) -> None:
        super().__init__()
        self.space = _conv(channels, channels, separable=separable)
        self.time = _conv(1, channels, separable=separable) if time else None

    def forward(self, z: Tensor, t: float) -> Tensor:
        y: Tensor = self.space(z)
        if self.time is None or t == 0:
            return y
        return y.add_(self.time(z.new_ones(1, 1, *z.shape[2:])), alpha=t)


class OdeFunction(nn.Module):
    """f(z, t) = norm2(conv2(relu(norm1(conv1(z, t))), t)); `call` is the number of the evaluation, None where it is
    of another division into steps, whose statistics are not kept."""

    def __init__(self, channels: int, evaluations: int, *, time: bool, separable: bool) -> None:
        super().__init__()
        self.conv1 = TimedConv(channels, time=time, separable=separable)
        self.norm1 = StepBatchNorm(channels, evaluations)
        self.conv2 = TimedConv(channels, time=time, separable=separable)
        self.norm2 = StepBatchNorm(channels, evaluations)

    def forward(self, z: Tensor, t: float, call: int | None) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(z, t), call), inplace=True)
        outer: Tensor = self.norm2(self.conv2(inner, t), call)
        return outer


class OdeBlock(nn.Module):
    """z after `steps` steps of size `h` of z' = f(z, t): one set of weights, as deep as there are steps.

    In training `drawn` steps are taken over the same span.
    """

    def __init__(self, f: OdeFunction, *, steps: int, h: float, solver: Solver) -> None:
        super().__init__()
        self.f = f
        self.steps = self.drawn = steps
        self.h = h
        self.solver: Solver = solver

    def forward(self, z: Tensor) -> Tensor:
        if self.training and self.drawn != self.steps:
            h = self.h * self.steps / self.drawn
            return solve(lambda z, t, call: self.f(z, t, None), z, self.drawn, h, self.solver)
        return solve(self.f, z, self.steps, self.h, self.solver)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, h={self.h}, solver={self.solver}"


class Block(nn.Module):
    """A ResNet basic block; its shortcut has no parameters (option A): every other pixel, new channels 0."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, separable: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = _conv(inputs, outputs, stride=stride, separable=separable)
        self.norm1 = BatchNorm(outputs)
        self.conv2 = _conv(outputs, outputs, separable=separable)
        self.norm2 = BatchNorm(outputs)

    def shortcut(self, x: Tensor) -> Tensor:
        missing = self.norm2.num_features - x.shape[1]
        if self.stride == 1 and not missing:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, missing))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def _stem(channels: int, width: int, kind: Stem) -> nn.Sequential:
    """Return the pre-processing layer: 3x3 for about 32 pixels per side, 7x7/2 and a pool (1/4) for 96 and more.

    3x3/2 is for sizes between, or for a quarter of the work.
    """
    side, stride = {"3x3": (3, 1), "3x3/2": (3, 2), "7x7": (7, 2)}[kind]
    conv = nn.Conv2d(channels, width, side, stride, side // 2, bias=False)
    act = nn.ReLU(inplace=True)
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=BatchNorm(width), act=act)
    if kind == "7x7":
        parts["pool"] = nn.MaxPool2d(3, 2, 1)
    return nn.Sequential(parts)


class OdeNet(Registered):
    """A classifier of the family: images [N, in_chans, H, W] in, logits [N, num_classes] out.

    `steps` replaces the executions of the ODE blocks, one number for all or one per block; `h` is a step's size, alike
    (1 makes it a residual block, 1 / steps integrates over one unit of time); `dsc` says where convolutions
    are depthwise separable (the stem's never is); `width` is the first stage's, doubled by each down-sampling
    block. InputError for a bad value.
    """

    def __init__(
        self,
        layout: tuple[Stage, Stage, Stage],
        *,
        in_chans: int = 3,
        num_classes: int = 10,
        width: int = 16,
        steps: int | tuple[int, ...] | None = None,
        solver: Solver = "euler",
        h: float | tuple[float, ...] = 1.0,
        time: Time = "concat",
        dsc: Dsc = "none",
        stem: Stem = "3x3",
        drop_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        _one_of("solver", solver, Solver)
        _one_of("time", time, Time)
        _one_of("dsc", dsc, Dsc)
        _one_of("stem", stem, Stem)
        if width < 1:
            raise InputError(f"width is {width}; it must be at least 1")
        first, second, third = layout if steps is None else _with_executions(layout, steps)
        sizes = iter(_each("h", h, sum(stage.ode for stage in layout)))

        def iterated(channels: int, stage: Stage) -> nn.Module:
            if stage.ode:
                evaluations = stage.executions * stages(solver)
                f = OdeFunction(channels, evaluations, time=time == "concat", separable=dsc != "none")
                return OdeBlock(f, steps=stage.executions, h=next(sizes), solver=solver)
            blocks = [Block(channels, channels, separable=dsc == "all") for _ in range(stage.executions)]
            return nn.Sequential(*blocks) if blocks else nn.Identity()

        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = 4 * width
        self.stem = _stem(in_chans, width, stem)
        self.layer1 = iterated(width, first)
        self.layer2_1 = Block(width, 2 * width, stride=2, separable=dsc == "all")
        self.layer2_2 = iterated(2 * width, second)
        self.layer3_1 = Block(2 * width, 4 * width, stride=2, separable=dsc == "all")
        self.layer3_2 = iterated(4 * width, third)
        self.head = ClassifierHead(4 * width, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        reduction = {"3x3": 1, "3x3/2": 2, "7x7": 4}[stem]
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": "layer1"},
            {"num_chs": 2 * width, "reduction": 2 * reduction, "module": "layer2_2"},
            {"num_chs": 4 * width, "reduction": 4 * reduction, "module": "layer3_2"},
        ]
        self.apply(_initialise)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.layer1(self.stem(x))
        x = self.layer2_2(self.layer2_1(x))
        features: Tensor = self.layer3_2(self.layer3_1(x))
        return features


def _one_of(name: str, value: object, choices: Any) -> None:  # noqa: ANN401 - a Literal
    if value not in choices.__args__:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices.__args__)}")


def _each(name: str, value: float | tuple[float, ...], blocks: int) -> tuple[float, ...]:
    """Return the value for each of this many ODE blocks; InputError where `value` doesn't give them."""
    each = (value,) * blocks if isinstance(value, int | float) else tuple(value)
    example = ",".join("123"[i % 3] for i in range(blocks))
    if len(each) != blocks or not all(0 < one < math.inf for one in each):
        raise InputError(
            f"{name} is {value}; give one number above 0, or {blocks} of them, one per ODE block ({name}={example})"
        )
    return each


def _steps_of_each(steps: int | tuple[int, ...], blocks: int) -> tuple[int, ...]:
    """Return the steps of each of this many ODE blocks; InputError where `steps` doesn't give them."""
    if not blocks:
        raise InputError("the net has no ODE block whose steps could be set")
    each = _each("steps", steps, blocks)
    if any(int(count) != count for count in each):
        raise InputError(f"steps is {steps}; steps are whole numbers")
    return tuple(int(count) for count in each)


def _with_executions(layout: tuple[Stage, ...], steps: int | tuple[int, ...]) -> tuple[Stage, ...]:
    """Return the layout with its ODE blocks' executions replaced by `steps`."""
    left = iter(_steps_of_each(steps, sum(stage.ode for stage in layout)))
    return tuple(Stage(next(left), True) if stage.ode else stage for stage in layout)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def ode_blocks(model: nn.Module) -> dict[str, OdeBlock]:
    """Return the model's ODE blocks by name, in the order of their execution."""
    return {name: module for name, module in model.named_modules() if isinstance(module, OdeBlock)}


def with_steps(model: nn.Module, steps: int | tuple[int, ...]) -> nn.Module:
    """Return a copy of model whose ODE blocks take `steps` steps (one number or one per block).

    The span h·steps stays, so h changes inversely. BatchNorm statistics are the nearest old evaluation's:
    call norm.reestimate before use. InputError for a bad number, or a model without ODE blocks.
    """
    model = copy.deepcopy(model)
    blocks = list(ode_blocks(model).values())
    for block, count in zip(blocks, _steps_of_each(steps, len(blocks)), strict=True):
        old = times(block.steps, block.solver)
        nearest = [min(range(len(old)), key=lambda i: abs(old[i] - t)) for t in times(count, block.solver)]
        for norm in (block.f.norm1, block.f.norm2):
            norm.take(nearest)
        block.h *= block.steps / count
        block.steps = block.drawn = count
    return model


def draw_steps(model: nn.Module, seed: int) -> None:
    """Have every ODE block take between 1 and its own number of steps in training, drawn by `seed`.

    A net trained so, drawn anew at every step, is meant to be good with fewer steps too (see with_steps).
    """
    generator = torch.Generator().manual_seed(seed)
    for block in ode_blocks(model).values():
        block.drawn = int(torch.randint(1, block.steps + 1, (), generator=generator))


def layout_of(name: str) -> tuple[Stage, Stage, Stage]:
    """Return the three stages of a net such as "resnet20", "rodenet13_56" or "dsodenet32_ode"."""
    match = re.fullmatch(r"(?:(resnet)|(?:ds)?odenet|rodenet(1|2|3|12|13)_)(\d+)(?:_ode)?", name)
    depth = int(match[3]) if match else 0
    if match is None or depth < 8 or depth % 6 != 2:
        raise InputError(f"{name} is not of the family; a depth is 6n + 2, at least 8")
    outer, inner = (depth - 2) // 6, (depth - 8) // 6
    half, quarter = (depth - 8) // 2, (depth - 8) // 4
    match match[2]:
        case "1":
            return Stage(half + 1, True), Stage(0, False), Stage(0, False)
        case "2":
            return Stage(1, False), Stage(half, True), Stage(0, False)
        case "3":
            return Stage(1, False), Stage(0, False), Stage(half, True)
        case "12":
            return Stage(quarter + 1, True), Stage(quarter, True), Stage(0, False)
        case "13":
            return Stage(quarter + 1, True), Stage(0, False), Stage(quarter, True)
        case _:
            ode = match[1] is None
            return Stage(outer, ode), Stage(inner, ode and inner > 0), Stage(inner, ode and inner > 0)


def _register(name: str, layout: tuple[Stage, Stage, Stage], size: int = 32, **preset: Any) -> None:  # noqa: ANN401
    """Make timm.create_model know the net under this name; `preset` gives defaults of OdeNet's keywords."""

    def create(pretrained: bool = False, **keywords: Any) -> nn.Module:  # noqa: ANN401
        # timm passes its own keywords beside the net's
        feature_cfg = {"out_indices": (0, 1, 2)}
        net: nn.Module = build_model_with_cfg(
            OdeNet, name, pretrained, feature_cfg=feature_cfg, layout=layout, **{**preset, **keywords}
        )
        return net

    create.__name__ = name
    create.__module__ = __name__
    default_cfgs[name] = configuration(size, 10, 8, "stem.conv")
    register_model(create)


default_cfgs: dict[str, dict[str, object]] = {}  # timm looks for this name
for _depth in (8, 14, *DEPTHS):
    _register(f"resnet{_depth}", layout_of(f"resnet{_depth}"))
for _depth in DEPTHS:
    for _name in ("odenet{}", "rodenet1_{}", "rodenet2_{}", "rodenet3_{}", "rodenet12_{}", "rodenet13_{}"):
        _register(_name.format(_depth), layout_of(_name.format(_depth)))
    _register(f"dsodenet{_depth}", layout_of(f"dsodenet{_depth}"), dsc="all")
    _register(f"dsodenet{_depth}_ode", layout_of(f"dsodenet{_depth}"), dsc="ode")
_register("dsodenet_l", (Stage(10, True),) * 3, size=96, width=64, dsc="all", stem="7x7")
