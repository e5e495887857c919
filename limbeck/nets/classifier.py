"""The classifier: a net, what it expects to see, what its outputs mean, and where its weights come from."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import InputError
from limbeck.images.views import WHITE
from limbeck.nets.fuse import can_fuse, cpu_features, fuse

LARGEST_SIDE = 4096
INTERPOLATIONS = ("bilinear", "bicubic")
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Input:
    """What a net expects: a square of `size` pixels, `channels` (1 or 3), (x / 255 - mean) / std; of grey images of 16
    bits the value `white` became 255."""

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    white: int = WHITE

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, self.size, self.size)


@dataclass(frozen=True)
class Lineage:
    """Where a net's weights come from, for reports: never guessed, empty where unknown."""

    tag: str  # the exact timm / torchvision tag, hub id, file or run
    data: str = ""  # data that the weights have seen, outside data named ("ImageNet-1k", "JFT-300M + ImageNet-1k")
    licence: str = ""
    sha256: str = ""  # of the weights' file; of a file that was exported, its run's
    teachers: tuple["Lineage", ...] = field(default=())


def whiter(seen: Input) -> dict[str, int]:
    """Return what a file says of the input's `white`: nothing of the usual one."""
    return {} if seen.white == WHITE else {"white": seen.white}


def white_of(asked: int | None, inputs: Iterable[Input]) -> int | None:
    """Return the value that is white in 16-bit images: as `asked`, else what the nets that are to see them say; None
    where all say the usual one. InputError where they differ."""
    if asked is not None:
        return asked
    own = {seen.white for seen in inputs} - {WHITE}
    if len(own) > 1:
        raise InputError(f"for these nets different values are white, {sorted(own)}; say which is here with --white")
    return next(iter(own), None)


def check_input(found: Input, where: str) -> None:
    """Refuse what no net can expect to see."""
    right = (
        0 < found.size <= LARGEST_SIDE
        and found.channels in (1, 3)
        and len(found.mean) == len(found.std) == found.channels
        and all(math.isfinite(value) for value in (*found.mean, *found.std))
        and min(found.std) > 0
        and found.interpolation in INTERPOLATIONS
        and 0 < found.crop_pct <= 2
        and 0 < found.white <= WHITE
    )
    if not right:
        raise InputError(
            f"{where} can't be used: {found}; size 1 to {LARGEST_SIDE}, 1 or 3 channels with a mean and a "
            f"positive std each, {' or '.join(INTERPOLATIONS)}, crop_pct in (0, 2], white 1 to {WHITE}"
        )


class Classifier(nn.Module):
    """A net with its preprocessing: uint8 images [N, C, H, W] of any size in, logits float32 [N, classes] out.

    `prepare` resizes to `input.size` where the size differs, turns grey into RGB or RGB into grey where the
    channels differ, and normalises; so teachers and student take the same view, each in its own way.
    """

    scale: Tensor
    shift: Tensor
    luma: Tensor
    order: Tensor | None  # int64 [classes]: which of the net's outputs is class i; None where it is output i

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,  # what timm.create_model takes, or tv/ and a torchvision name
        arguments: dict[str, Any],  # what else it takes, JSON-able
        classes: tuple[str, ...],
        input: Input,
        lineage: Lineage,
    ) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.arguments = dict(arguments)
        self.classes = tuple(classes)
        self.input = input
        self.lineage = lineage
        mean, std = torch.tensor(input.mean), torch.tensor(input.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("luma", torch.tensor(_LUMA).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("order", None, persistent=False)

    def prepare(self, images: Tensor) -> Tensor:
        """Return what the net takes, in its dtype and memory format, from images [N, 1 or 3, H, W] in [0, 255]."""
        values = images.float()
        if values.shape[1] == 3 and self.input.channels == 1:
            values = (values * self.luma).sum(1, keepdim=True)
        if values.shape[-2:] != (self.input.size, self.input.size):
            values = _resized(values, self.input.size, self.input.interpolation)
        if torch.compiler.is_compiling():  # torch 2.6 can't export addcmul
            values = values * self.scale + self.shift
        else:
            values = torch.addcmul(self.shift, values, self.scale)  # here one grey channel becomes three
        dtype = next(self.net.parameters()).dtype
        return values.to(dtype=dtype, memory_format=_memory_format(self.net))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 [N, classes]."""
        logits: Tensor = self.net(self.prepare(images)).float()
        return logits if self.order is None else logits[:, self.order]


def _resized(values: Tensor, size: int, interpolation: str) -> Tensor:
    resized = F.interpolate(values, (size, size), mode=interpolation, align_corners=False, antialias=True)
    return resized.clamp(0, 255) if interpolation == "bicubic" else resized


def _memory_format(net: nn.Module) -> torch.memory_format:
    for weight in net.parameters():
        if weight.ndim == 4 and weight.shape[1] > 1 and weight.shape[2] > 1:  # else both formats are the same
            last = weight.is_contiguous(memory_format=torch.channels_last)
            return torch.channels_last if last else torch.contiguous_format
    return torch.contiguous_format


def renewed(
    found: Classifier,
    *,
    net: nn.Module | None = None,
    classes: tuple[str, ...] | None = None,
    input: Input | None = None,
    lineage: Lineage | None = None,
) -> Classifier:
    """Return `found` with what is given in place of its own."""
    made = Classifier(
        net or found.net,
        name=found.name,
        arguments=found.arguments,
        classes=classes or found.classes,
        input=input or found.input,
        lineage=lineage or found.lineage,
    )
    made.order = found.order if net is None else None
    return made


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of classes without names: "0", "1", ..."""
    return tuple(str(place) for place in range(count))


def imagenet_1k() -> tuple[str, ...]:
    """Return ImageNet-1k's classes as synsets ("n01440764", ...), in the order that all its weights use."""
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())  # type: ignore[no-untyped-call]


def meanings(classes: tuple[str, ...]) -> dict[str, str]:
    """Return what ImageNet's synsets mean, where the classes are these."""
    if classes != imagenet_1k():
        return {}
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return {name: info.label_name_to_description(name).split(",")[0] for name in classes}


ClassOrder = Literal["ask", "lexical", "natural"]
"""How nets that don't name their classes number them; "ask": an InputError where the two differ."""


def natural(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted as timm sorts folders, numbers in them by their value: a2 before a10."""
    return tuple(sorted(names, key=lambda name: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)]))


def check_classes(
    classifier: Classifier, classes: tuple[str, ...], name: str = "", *, order: ClassOrder = "ask"
) -> str:
    """Put the outputs of `classifier` into the order of `classes`, or refuse; return a note, empty where all is plain.
    `name` is what it is called in them, as the user spelt it; by default its lineage's tag.

    The same names in another order are put in order. Names that are unknown ("0", "1", ...) can only be counted: the
    classes are then taken in the data's order, which is lexical, and the note says so; where a natural order would be
    another, `order` must say which it is. Anything else is an InputError.
    """
    own, tag = classifier.classes, name or classifier.lineage.tag
    if own == classes:
        return ""
    remedy = f"fine-tune it on this data (limbeck teach --model) or choose another than {tag}"
    if len(own) != len(classes):
        raise InputError(f"{tag} has {len(own)} classes and the data has {len(classes)}; {remedy}")
    unnamed = own == numbered(len(own))
    if unnamed and (counted := natural(classes)) != classes:
        if order == "ask":
            at = next(i for i, pair in enumerate(zip(classes, counted, strict=True)) if pair[0] != pair[1])
            raise InputError(
                f"{tag} numbers its classes, and number {at} may be {classes[at]!r} (lexical order, as torchvision has "
                f"it) or {counted[at]!r} (natural order, as timm has it): pass --class-order lexical or natural to "
                "limbeck teach, distill, label, adapt or evaluate"
            )
        classifier.classes = own = counted if order == "natural" else classes
        if own == classes:
            return f"the {len(own)} classes of {tag} are taken in lexical order"
    if set(own) == set(classes):
        places = {name: place for place, name in enumerate(own)}
        places_ = torch.tensor([places[name] for name in classes], device=classifier.scale.device)
        classifier.order = places_ if classifier.order is None else classifier.order[places_]
        classifier.classes = classes
        return f"{tag} has the data's classes in another order; its outputs are reordered"
    synsets = own == imagenet_1k() and not set(own) & set(classes)  # the data's names may be in English
    if synsets or unnamed or numbered(len(own)) == classes:
        if unnamed:
            classifier.classes = classes  # what is trained on from here keeps these names
        return f"the {len(own)} classes of {tag} can't be compared by name; the data's order is assumed"
    strange = next(name for name in classes if name not in own)
    raise InputError(f"{tag} does not have the data's class {strange!r}; {remedy}")


def check_finite(logits: Tensor, name: str) -> None:
    """Refuse the logits of the net that the user calls `name` where one is NaN or infinite."""
    if not bool(logits.isfinite().all()):
        raise InputError(f"{name} outputs NaN or infinity; its weights are broken, train it again or leave it out")


def freeze(
    classifier: Classifier,
    *,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,
) -> Classifier:
    """Make `classifier`, in place, the fastest teacher that its device allows, and return it.

    Evaluation mode, no gradients, channels last; "auto" is bfloat16 where the device computes in it. On CPUs the net
    is fused (nets.fuse) unless it is compiled, or float32 is given: then it computes as it did. Call it after
    `.to(device)`, and the result under torch.no_grad(). Logits stay float32.
    """
    device = next(classifier.net.parameters()).device
    half = dtype == "bfloat16" or (dtype == "auto" and computes_bfloat16(device))
    computes = torch.bfloat16 if half else torch.float32
    classifier.eval().requires_grad_(False)
    net = classifier.net.float().to(memory_format=torch.channels_last)
    if device.type == "cpu" and not compile and dtype != "float32" and can_fuse(computes):
        seen = classifier.input
        noise = torch.rand(1, *seen.shape, generator=torch.Generator().manual_seed(0))
        net = fuse(net, classifier.prepare(noise * 255))
    net.to(computes)  # the buffers of `prepare` stay in float32
    classifier.net = cast(nn.Module, torch.compile(net, options={"freezing": True})) if compile else net
    return classifier


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16 in hardware; elsewhere torch emulates it, some ten times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = cpu_features()
    return device.type == "cpu" and any(features.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
