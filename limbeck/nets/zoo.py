"""Classifiers by pinned tag: what a net expects to see, where its weights come from, loaded strictly or not at all."""

import difflib
import inspect
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import InputError
from limbeck.nets.weights import digest, fill, pack, read_weights, unpack
from limbeck.runs import read_json, write_bytes, write_json

FORMAT = 1
_IMAGENET_1K = "ImageNet-1k"
_TORCHVISION = "tv/"
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_INTERPOLATIONS = ("bilinear", "bicubic")
_LARGEST_SIDE = 4096
# What timm's nets may be asked for beyond classes and channels; an architecture's own named parameters are added.
_ARGUMENTS = frozenset({"img_size", "drop_rate", "drop_path_rate", "global_pool", "act_layer", "norm_layer"})
_NEVER = frozenset(
    {"pretrained", "num_classes", "in_chans", "checkpoint_path", "cache_dir", "device", "dtype"}
)


@dataclass(frozen=True)
class Input:
    """What a net expects: a square of `size` pixels, `channels` (1 or 3), (x / 255 - mean) / std."""

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 0.875


@dataclass(frozen=True)
class Lineage:
    """Where a net's weights come from, for reports: never guessed, empty where unknown."""

    tag: str  # the exact timm / torchvision tag, hub id, file or run
    data: str = (
        ""  # data that the weights have seen, outside data named ("ImageNet-1k", "JFT-300M + ImageNet-1k")
    )
    licence: str = ""
    sha256: str = ""  # of the weights
    teachers: tuple["Lineage", ...] = field(default=())


@dataclass(frozen=True)
class Entry:
    """A net that MEAL V2 used, by its exact timm tag."""

    role: Literal["student", "teacher"]
    top1: float | None  # published ImageNet-1k validation top-1, in %, at the tag's own size
    data: str  # what the weights have seen
    note: str


# Top-1: timm's results-imagenet.csv, as of timm 1.0.
ZOO: dict[str, Entry] = {
    "resnet18.tv_in1k": Entry("student", 69.75, _IMAGENET_1K, "MEAL V2 does not say which weights it began with"),
    "resnet50.ram_in1k": Entry("student", 79.03, _IMAGENET_1K, "AugMix-style loss and RandAugment; plain `resnet50` is now another tag"),
    "tf_mobilenetv3_small_075.in1k": Entry("student", 65.71, _IMAGENET_1K, "mean and std 0.5; MEAL V2 fed ImageNet's"),
    "tf_mobilenetv3_small_100.in1k": Entry("student", 67.92, _IMAGENET_1K, "mean and std 0.5; MEAL V2 fed ImageNet's"),
    "tf_mobilenetv3_large_100.in1k": Entry("student", 75.51, _IMAGENET_1K, "mean and std 0.5; MEAL V2 fed ImageNet's"),
    "tf_efficientnet_b0.aa_in1k": Entry("student", 76.88, _IMAGENET_1K, "AutoAugment; plain `tf_efficientnet_b0` is now a JFT-300M tag"),
    "senet154.gluon_in1k": Entry("teacher", 81.26, _IMAGENET_1K, "teacher of all students at 224 px"),
    "resnet152s.gluon_in1k": Entry("teacher", 81.05, _IMAGENET_1K, "teacher of all students at 224 px"),
    "tf_efficientnet_b4.ns_jft_in1k": Entry("teacher", 85.16, "JFT-300M + ImageNet-1k", "teacher at 380 px; Noisy Student saw outside data, JFT-300M"),
    "tf_efficientnet_b4.aa_in1k": Entry("teacher", 83.04, _IMAGENET_1K, "teacher at 380 px; which b4 weights is inferred from the file's name"),
}  # fmt: skip


class Classifier(nn.Module):
    """A net with its eyes: uint8 images [N, C, H, W] of any size in, logits float32 [N, classes] out.

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
        like = next(self.net.parameters())
        values = images.float()
        if values.shape[1] == 3 and self.input.channels == 1:
            values = (values * self.luma).sum(1, keepdim=True)
        if values.shape[-2:] != (self.input.size, self.input.size):
            values = _resized(values, self.input.size, self.input.interpolation)
        values = torch.addcmul(self.shift, values, self.scale)  # a grey channel spreads over three here
        return values.to(dtype=like.dtype, memory_format=_memory_format(self.net))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 [N, classes]."""
        logits: Tensor = self.net(self.prepare(images)).float()
        return logits if self.order is None else logits[:, self.order]


def _resized(values: Tensor, size: int, interpolation: str) -> Tensor:
    resized = F.interpolate(values, (size, size), mode=interpolation, align_corners=False, antialias=True)
    return resized.clamp_(0, 255) if interpolation == "bicubic" else resized


def _memory_format(net: nn.Module) -> torch.memory_format:
    for weight in net.parameters():
        if weight.ndim == 4 and weight.shape[1] > 1 and weight.shape[2] > 1:  # else both formats are the same
            last = weight.is_contiguous(memory_format=torch.channels_last)
            return torch.channels_last if last else torch.contiguous_format
    return torch.contiguous_format


def create(
    name: str,
    *,
    classes: tuple[str, ...],
    channels: int,
    size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    pretrained: bool = False,
    arguments: dict[str, Any] | None = None,
) -> Classifier:
    """Return a net for `classes`: a timm name (ours included), or tv/ and a torchvision name.

    Random weights from torch's global generator; or, where `pretrained`, what `load(name)` finds, with a new head
    where the classes differ (the lineage says so). What is not given (size in pixels, mean and std of pixels in
    [0, 1]) is as the name's own weights expect. Pretrained nets keep their channels; grey images are repeated.
    """
    if pretrained:
        if arguments:
            raise InputError("pretrained weights come with their own arguments; leave the arguments out")
        return _adjusted(_fitted(_load(name), classes), size, mean, std)
    expected = _expected(name, channels)
    arguments = dict(arguments or {})
    if size is not None and (key := _size_argument(name)):
        arguments[key] = size
    net = _build(name, arguments, len(classes), channels)
    lineage = Lineage(f"{_base(name)}, random weights")
    made = Classifier(
        net, name=_base(name), arguments=arguments, classes=classes, input=expected, lineage=lineage
    )
    return _adjusted(made, size, mean, std)


def _adjusted(
    made: Classifier, size: int | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Classifier:
    eyes = made.input
    wanted = replace(eyes, size=size or eyes.size, mean=mean or eyes.mean, std=std or eyes.std)
    if wanted == eyes:
        return made
    _check_input(wanted, "the net's input")
    key = _size_argument(made.name)
    if key and wanted.size != made.arguments.get(key, eyes.size):
        raise InputError(f"{made.name} with these weights takes {eyes.size} px only; leave the size out")
    return Classifier(
        made.net,
        name=made.name,
        arguments=made.arguments,
        classes=made.classes,
        input=wanted,
        lineage=made.lineage,
    )


def load(spec: str, *, classes: tuple[str, ...] | None = None, channels: int | None = None) -> Classifier:
    """Return the net that `spec` names, with all of its weights and no random one.

    `spec` is a run folder, a pinned timm tag (`resnet50.ram_in1k`), `tv/NAME.WEIGHTS`, `NAME@FILE` (an architecture
    or a tag, and its weights), `local-dir:PATH` (as timm saves for its hub) or `hf-hub:ID`. `classes` and `channels`
    are taken where a weight file does not say. InputError in all cases where the weights would not fill the net.
    """
    found = _load(spec, classes, channels)
    if not found.classes:
        raise InputError(f"{spec} has no classifier head; fine-tune it first: limbeck teach --model {spec}")
    return found


def _load(spec: str, classes: tuple[str, ...] | None = None, channels: int | None = None) -> Classifier:
    if (Path(spec) / "model.json").is_file():
        return _from_run(Path(spec))
    if spec.startswith("hf-hub:"):
        return _from_hub(spec)
    if spec.startswith("local-dir:"):
        return _from_timm_folder(Path(spec.removeprefix("local-dir:")), Lineage(spec))
    if "@" in spec:
        name, _, file = spec.partition("@")
        return _from_file(name, Path(file), classes, channels)
    if spec.startswith(_TORCHVISION):
        return _from_torchvision(spec)
    if "/" in spec or Path(spec).is_dir():
        raise InputError(f"{spec} is not a run: it holds no model.json; name a folder that limbeck wrote")
    return _from_timm(spec)


def _from_timm(tag: str) -> Classifier:
    import timm

    base = _known(tag)
    tags = timm.list_pretrained(f"{base}.*")
    if tag not in tags:
        choice = ", ".join(tags) or "none; train it first, or give NAME@FILE"
        raise InputError(
            f"{tag} does not say which weights; a plain name changes its meaning over time: {choice}"
        )
    config = timm.get_pretrained_cfg(tag)
    heard = _Missing()
    logger = logging.getLogger("timm.models._builder")
    logger.addFilter(heard)
    try:
        net = timm.create_model(tag, pretrained=True)
    except Exception as error:  # the hub's client raises what it likes
        raise InputError(_unreachable(tag, config.hf_hub_id or config.url or "its origin", error)) from error
    finally:
        logger.removeFilter(heard)
    if heard.keys:
        raise InputError(f"the weights of {tag} leave parts of the net at random: {heard.keys[0]}")
    data = ZOO[tag].data if tag in ZOO else ""
    lineage = Lineage(tag, data, config.license or "", digest(pack(net)))
    return Classifier(
        net,
        name=base,
        arguments={},
        classes=_names(net.num_classes, tag),
        input=_expected(tag, 3),
        lineage=lineage,
    )


class _Missing(logging.Filter):
    """Hears timm say that keys were missing: a few of its nets are loaded without `strict`."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message.startswith("Missing keys"):
            self.keys.append(message)
        return True


def _unreachable(tag: str, place: str, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).strip().splitlines()[0]
    return (
        f"could not fetch the weights of {tag} from {place} ({reason}); "
        f"bring the file here by other means and give {tag}@FILE, or local-dir:FOLDER"
    )


def _from_torchvision(spec: str) -> Classifier:
    import torchvision

    base, tag = _known(spec), spec.partition(".")[2]
    known = torchvision.models.get_model_weights(base.removeprefix(_TORCHVISION)).__members__
    if tag not in known:
        choice = ", ".join(f"{base}.{member}" for member in known)
        raise InputError(f"{spec} does not say which weights: {choice}")
    try:
        state = known[tag].get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # urllib, OSError, a wrong hash
        raise InputError(_unreachable(spec, known[tag].url, error)) from error
    return _filled(spec, base, {}, len(known[tag].meta["categories"]), 3, state, _lineage(spec))


def _from_file(name: str, file: Path, classes: tuple[str, ...] | None, channels: int | None) -> Classifier:
    base = _known(name)
    state, sha256 = read_weights(file)
    head, stem = _ends(name)
    count = _length(state, head, 0) or (len(classes) if classes else None)
    width = _length(state, stem, 1) or channels or 3
    if not count:
        raise InputError(f"{file} does not say how many classes {base} has: no {head}.weight")
    lineage = replace(_lineage(name), tag=f"{name}@{file}", sha256=sha256)
    return _filled(name, base, {}, count, width, state, lineage)


def _filled(
    tag: str, base: str, arguments: dict[str, Any], count: int, channels: int, state: dict[str, Tensor], lineage: Lineage
) -> Classifier:  # fmt: skip
    net = _build(base, arguments, count, channels)
    fill(net, state, lineage.tag)
    return Classifier(
        net,
        name=base,
        arguments=arguments,
        classes=_names(count, tag),
        input=_expected(tag, channels),
        lineage=lineage if lineage.sha256 else replace(lineage, sha256=digest(pack(net))),
    )


def _from_timm_folder(folder: Path, lineage: Lineage) -> Classifier:
    """Load the layout of timm's save_for_hf: config.json beside model.safetensors or pytorch_model.bin."""
    path = folder / "config.json"
    config = _read(path)
    saved = _get(config, "pretrained_cfg", dict, path) if "pretrained_cfg" in config else config
    base = _known(_get(config, "architecture", str, path))
    arguments = dict(_get(config, "model_args", dict, path)) if "model_args" in config else {}
    channels = arguments.pop("in_chans", None) or (saved.get("input_size") or [3])[0]
    count = arguments.pop("num_classes", None) or config.get("num_classes", saved.get("num_classes"))
    names = config.get("label_names", saved.get("label_names"))
    if not isinstance(count, int) or not isinstance(channels, int) or not 0 < count <= 10**6:
        raise InputError(f"{path} does not say how many classes or channels the net has")
    files = [
        folder / name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()
    ]
    if not files:
        raise InputError(f"{folder} holds neither model.safetensors nor pytorch_model.bin")
    state, sha256 = read_weights(files[0])
    lineage = replace(lineage, sha256=sha256, licence=str(saved.get("license") or lineage.licence))
    made = _filled(base, base, arguments, count, channels, state, lineage)
    named = isinstance(names, list) and len(names) == count and all(isinstance(name, str) for name in names)
    return _renewed(
        made,
        classes=tuple(cast(list[str], names)) if named else _defaults(count),
        input=_resolved(saved, channels),
    )


def _from_hub(spec: str) -> Classifier:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = spec.removeprefix("hf-hub:").partition("@")
    try:
        config = hf_hub_download(repository, "config.json", revision=revision or None)
        try:
            hf_hub_download(repository, "model.safetensors", revision=revision or None)
        except EntryNotFoundError:
            hf_hub_download(repository, "pytorch_model.bin", revision=revision or None)
    except Exception as error:  # the hub's client raises what it likes
        raise InputError(_unreachable(spec, repository, error)) from error
    return _from_timm_folder(Path(config).parent, Lineage(spec))


def save(classifier: Classifier, folder: Path) -> Lineage:
    """Write model.safetensors and model.json into `folder`; return the lineage with the weights' SHA-256."""
    data = pack(
        getattr(classifier.net, "_orig_mod", classifier.net)
    )  # a compiled net keeps the plain one there
    lineage = replace(classifier.lineage, sha256=digest(data))
    classes = list(classifier.classes)
    if classifier.order is not None:  # say what the net's own outputs are
        for place, name in zip(classifier.order.tolist(), classifier.classes, strict=True):
            classes[place] = name
    document = {
        "format": FORMAT,
        "name": classifier.name,
        "arguments": classifier.arguments,
        "classes": classes,
        "input": asdict(classifier.input),
        "lineage": asdict(lineage),
    }
    write_bytes(Path(folder) / "model.safetensors", data)
    write_json(Path(folder) / "model.json", document)
    return lineage


def _from_run(folder: Path) -> Classifier:
    path = folder / "model.json"
    document = _read(path)
    _only(document, {"format", "name", "arguments", "classes", "input", "lineage"}, path)
    if document.get("format") != FORMAT:
        raise InputError(f"{path} has format {document.get('format')!r}; this version reads {FORMAT}")
    classes = _get(document, "classes", list, path)
    if not classes or not all(isinstance(name, str) for name in classes) or len(set(classes)) != len(classes):
        raise InputError(f"{path}: classes must be different names")
    expected = _read_input(_get(document, "input", dict, path), path)
    lineage = _read_lineage(_get(document, "lineage", dict, path), path)
    name, arguments = _get(document, "name", str, path), _get(document, "arguments", dict, path)
    try:
        data = (folder / "model.safetensors").read_bytes()
    except OSError as error:
        raise InputError(f"{folder}/model.safetensors cannot be read: {error.strerror}") from error
    if digest(data) != lineage.sha256:
        raise InputError(
            f"{folder}/model.safetensors is not the file that model.json was written with; it has changed"
        )
    net = _build(_known(name), arguments, len(classes), expected.channels)
    fill(net, unpack(data, folder / "model.safetensors"), str(folder))
    return Classifier(
        net, name=name, arguments=arguments, classes=tuple(classes), input=expected, lineage=lineage
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path)
    except RecursionError as error:
        raise InputError(f"{path} is not readable JSON: too deep") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold one JSON object")
    return document


def _only(document: dict[str, Any], known: set[str], path: Path) -> None:
    if unknown := sorted(set(document) - known):
        raise InputError(f"{path} has unknown fields: {', '.join(unknown[:5])}")


def _get(document: dict[str, Any], key: str, kind: type, path: Path) -> Any:  # noqa: ANN401 - of that kind
    value = document.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{path}: {key} must be a {kind.__name__}, not {type(value).__name__}")
    return value


def _read_input(document: dict[str, Any], path: Path) -> Input:
    _only(document, {"size", "channels", "mean", "std", "interpolation", "crop_pct"}, path)
    mean, std = (tuple(_numbers(document.get(key), f"{path}: {key}")) for key in ("mean", "std"))
    (crop_pct,) = _numbers([document.get("crop_pct")], f"{path}: crop_pct")
    size, channels = _get(document, "size", int, path), _get(document, "channels", int, path)
    found = Input(size, channels, mean, std, _get(document, "interpolation", str, path), crop_pct)
    _check_input(found, str(path))
    return found


def _numbers(values: Any, where: str) -> list[float]:  # noqa: ANN401 - whatever the file holds
    good = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not good:
        raise InputError(f"{where} must be numbers")
    return [float(value) for value in values]


def _check_input(found: Input, where: str) -> None:
    right = (
        0 < found.size <= _LARGEST_SIDE
        and found.channels in (1, 3)
        and len(found.mean) == len(found.std) == found.channels
        and all(math.isfinite(value) for value in (*found.mean, *found.std))
        and min(found.std) > 0
        and found.interpolation in _INTERPOLATIONS
        and 0 < found.crop_pct <= 1
    )
    if not right:
        raise InputError(
            f"{where} can't be used: {found}; size 1 to {_LARGEST_SIDE}, 1 or 3 channels with a mean and a "
            f"positive std each, {' or '.join(_INTERPOLATIONS)}, crop_pct in (0, 1]"
        )


def _read_lineage(document: dict[str, Any], path: Path) -> Lineage:
    _only(document, {"tag", "data", "licence", "sha256", "teachers"}, path)
    teachers = _get(document, "teachers", list, path)
    if not all(isinstance(teacher, dict) for teacher in teachers):
        raise InputError(f"{path}: teachers must be lineages")
    words = [_get(document, key, str, path) for key in ("tag", "data", "licence", "sha256")]
    return Lineage(*words, teachers=tuple(_read_lineage(teacher, path) for teacher in teachers))


def check_classes(classifier: Classifier, classes: tuple[str, ...]) -> str:
    """Make `classifier` answer in the order of `classes`, or refuse; return a note, empty where all is plain.

    The same names in another order are put in order. Names that are unknown ("0", "1", ...) can only be counted,
    and the note says so. Anything else is an InputError.
    """
    own, spec = classifier.classes, classifier.lineage.tag
    if own == classes:
        return ""
    if len(own) != len(classes):
        raise InputError(
            f"{spec} knows {len(own)} classes and the data has {len(classes)}; "
            f"fine-tune it on this data: limbeck teach --model {spec}"
        )
    if set(own) == set(classes):
        places = {name: place for place, name in enumerate(own)}
        order = torch.tensor([places[name] for name in classes], device=classifier.scale.device)
        classifier.order = order if classifier.order is None else classifier.order[order]
        classifier.classes = classes
        return f"{spec} has the data's classes in another order; its outputs are re-ordered"
    if _defaults(len(own)) in (own, classes) or (own == _imagenet() and not set(own) & set(classes)):
        return f"the names of {spec}'s {len(own)} classes can't be compared with the data's; the same order is assumed"
    strange = next(name for name in classes if name not in own)
    raise InputError(
        f"{spec} does not know the data's class {strange!r}; "
        f"fine-tune it on this data: limbeck teach --model {spec}"
    )


def _fitted(found: Classifier, classes: tuple[str, ...]) -> Classifier:
    """Return `found` for `classes`: as it is where they fit, else with a new, random head, which the lineage says."""
    try:
        check_classes(found, classes)
        return found
    except InputError:
        return _with_new_head(found, classes)


def _with_new_head(found: Classifier, classes: tuple[str, ...]) -> Classifier:
    """The head is what changes its shape with the number of classes."""
    old = found.net.state_dict()
    count, channels = len(classes), found.input.channels
    probe = count if count != len(found.classes) else count + 1
    shapes = {
        key: value.shape
        for key, value in _build(found.name, found.arguments, probe, channels).state_dict().items()
    }
    head = [key for key, shape in shapes.items() if key not in old or old[key].shape != shape]
    net = _build(found.name, found.arguments, count, channels)
    fresh = net.state_dict()
    fill(net, {key: fresh[key] if key in head else old[key] for key in fresh}, found.lineage.tag)
    lineage = replace(found.lineage, tag=f"{found.lineage.tag}, new head of {count} classes")
    return _renewed(found, net=net, classes=classes, lineage=lineage)


def _renewed(
    found: Classifier,
    *,
    net: nn.Module | None = None,
    classes: tuple[str, ...] | None = None,
    input: Input | None = None,
    lineage: Lineage | None = None,
) -> Classifier:
    return Classifier(
        net or found.net,
        name=found.name,
        arguments=found.arguments,
        classes=classes or found.classes,
        input=input or found.input,
        lineage=lineage or found.lineage,
    )


def _build(base: str, arguments: dict[str, Any], count: int, channels: int) -> nn.Module:
    """Return the architecture `base` with random weights; InputError for arguments that it does not take."""
    _check_arguments(base, arguments)
    try:
        if base.startswith(_TORCHVISION):
            import torchvision

            if channels != 3:
                raise InputError(f"{base} takes 3 channels only, not {channels}")
            name = base.removeprefix(_TORCHVISION)
            return cast(
                nn.Module, torchvision.models.get_model(name, weights=None, num_classes=count, **arguments)
            )
        import timm

        net = timm.create_model(base, pretrained=False, num_classes=count, in_chans=channels, **arguments)
    except InputError:
        raise
    except Exception as error:  # an argument may fail anywhere in an architecture
        raise InputError(f"{base} can't be built with {arguments or 'no arguments'}: {error}") from error
    return cast(nn.Module, net)


def _check_arguments(base: str, arguments: dict[str, Any]) -> None:
    known = _known_arguments(base)
    for key, value in arguments.items():
        if key not in known:
            raise InputError(f"{base} takes no argument {key!r}, only {', '.join(sorted(known))}")
        values = value if isinstance(value, list | tuple) else [value]
        if not all(_is_plain(one) for one in values):
            raise InputError(f"{base}: {key} must be a number, a word or a list of these, not {value!r}")


def _is_plain(value: object) -> bool:
    match value:
        case str():
            return len(value) <= 64
        case int() | float():
            return abs(value) <= _LARGEST_SIDE  # False for NaN
        case _:
            return value is None


def _known_arguments(base: str) -> frozenset[str]:
    from limbeck.nets.odenet import OdeNet, default_cfgs

    if base in default_cfgs:
        return frozenset(inspect.signature(OdeNet).parameters) - _NEVER - {"layout"}
    return frozenset({"image_size", "dropout"}) if base.startswith(_TORCHVISION) else _ARGUMENTS


def _base(name: str) -> str:
    return name.partition(".")[0]


def _known(name: str) -> str:
    """Return the architecture of `name`, without its tag; InputError where nobody knows it."""
    import timm
    import torchvision

    import limbeck.nets.odenet  # noqa: F401 - registers ours

    base = _base(name)
    if base.startswith(_TORCHVISION):
        names = [_TORCHVISION + each for each in torchvision.models.list_models(module=torchvision.models)]
        names = [each for each in names if each not in ("tv/googlenet", "tv/inception_v3")]  # two outputs
    else:
        names = timm.list_models()
    if base not in names:
        near = difflib.get_close_matches(base, names, 3)
        raise InputError(
            f"{base!r} is no architecture that timm, torchvision (tv/NAME) or limbeck knows"
            + (f"; did you mean {' or '.join(near)}?" if near else "")
        )
    return base


def _config(name: str) -> dict[str, Any]:
    """Return what timm says of a name or tag; empty for torchvision's."""
    import timm

    _known(name)
    if name.startswith(_TORCHVISION):
        return {}
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        choice = ", ".join(timm.list_pretrained(f"{_base(name)}.*"))
        raise InputError(f"timm knows no weights {name}: {choice or 'none of this net'}") from error
    return cast(dict[str, Any], found.to_dict()) if found else {}


def _expected(name: str, channels: int) -> Input:
    if not name.startswith(_TORCHVISION):
        return _resolved(_config(name), channels)
    import torchvision

    weights = torchvision.models.get_model_weights(_base(_known(name) and name).removeprefix(_TORCHVISION))
    tag = name.partition(".")[2] or "DEFAULT"
    if tag != "DEFAULT" and tag not in weights.__members__:
        raise InputError(f"torchvision knows no weights {name}: {', '.join(weights.__members__)}")
    seen = weights[tag].transforms()
    size, crop_pct = seen.crop_size[0], seen.crop_size[0] / seen.resize_size[0]
    return _spread(
        Input(size, 3, tuple(seen.mean), tuple(seen.std), seen.interpolation.value, crop_pct), channels
    )


def _resolved(config: dict[str, Any], channels: int) -> Input:
    from timm.data import resolve_data_config

    try:
        seen = resolve_data_config(pretrained_cfg=config)
        mean, std = (
            tuple(float(value) for value in seen["mean"]),
            tuple(float(value) for value in seen["std"]),
        )
        interpolation = seen["interpolation"] if seen["interpolation"] in _INTERPOLATIONS else "bicubic"
        found = Input(
            int(seen["input_size"][-1]), len(mean), mean, std, interpolation, float(seen["crop_pct"])
        )
    except (TypeError, ValueError, AssertionError, LookupError) as error:
        raise InputError(f"the net does not say what it expects to see: {error}") from error
    found = _spread(found, channels)
    _check_input(found, "the net's input")
    return found


def _spread(found: Input, channels: int) -> Input:
    """Return `found` for another number of channels: each sees the mean of the constants."""
    if channels == found.channels:
        return found
    mean, std = (sum(values) / len(values) for values in (found.mean, found.std))
    return replace(found, channels=channels, mean=(mean,) * channels, std=(std,) * channels)


def _size_argument(name: str) -> str | None:
    """Return the argument that fixes the size, for nets that take one size only."""
    if name.startswith(_TORCHVISION):
        return "image_size" if name.startswith("tv/vit_") else None
    return "img_size" if _config(name).get("fixed_input_size") else None


def _ends(name: str) -> tuple[str, str]:
    """Return the names of the classifier and of the first convolution."""
    config = _config(name)
    ends = (config.get("classifier") or "", config.get("first_conv") or "")
    head, stem = (end if isinstance(end, str) else end[0] for end in ends)
    return head, stem


def _length(state: dict[str, Tensor], module: str, axis: int) -> int | None:
    weight = state.get(f"{module}.weight")
    return weight.shape[axis] if weight is not None and weight.ndim > axis else None


def _lineage(tag: str) -> Lineage:
    data = ZOO[tag].data if tag in ZOO else ""
    if tag.startswith(_TORCHVISION) and tag.partition(".")[2] in ("IMAGENET1K_V1", "IMAGENET1K_V2"):
        data = _IMAGENET_1K
    return Lineage(tag, data, _config(tag).get("license") or "")


def _names(count: int, tag: str) -> tuple[str, ...]:
    """Return ImageNet-1k's synsets for pinned tags of 1000 classes, else "0", "1", ..."""
    pinned = "." in tag
    return _imagenet() if count == 1000 and pinned else _defaults(count)


def _imagenet() -> tuple[str, ...]:
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


def _defaults(count: int) -> tuple[str, ...]:
    return tuple(str(place) for place in range(count))


def freeze(
    classifier: Classifier, *, dtype: Literal["auto", "float32", "bfloat16"] = "auto", compile: bool = False
) -> Classifier:
    """Make `classifier`, in place, the fastest teacher that its device allows, and return it.

    Evaluation mode, no gradients, channels last. "auto" is bfloat16 where the device computes in it. Call it after
    `.to(device)`. Logits stay float32; in bfloat16 they differ by about 1 % of their range.
    """
    device = next(classifier.net.parameters()).device
    half = dtype == "bfloat16" or (dtype == "auto" and _has_bfloat16(device))
    classifier.eval().requires_grad_(False)
    classifier.net.to(dtype=torch.bfloat16 if half else torch.float32, memory_format=torch.channels_last)
    if compile:
        classifier.net = cast(nn.Module, torch.compile(classifier.net))
    return classifier


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(features.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
