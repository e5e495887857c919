"""Classifiers by pinned tag: created, saved, and loaded with all of their weights or not at all."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from limbeck.errors import InputError, first_line
from limbeck.images.views import WHITE
from limbeck.nets.classifier import (
    Classifier,
    ClassOrder,
    Input,
    Lineage,
    check_classes,
    check_input,
    freeze,
    imagenet_1k,
    numbered,
    renewed,
    whiter,
)
from limbeck.nets.fetch import WEIGHTS, from_hub, from_url
from limbeck.nets.tags import (
    TORCHVISION,
    base_of,
    build,
    check_pinned,
    config_of,
    input_of,
    pretrained,
    resolve,
    size_argument,
)
from limbeck.nets.weights import digest, fill, pack, read_weights, unpack
from limbeck.runs import MODEL, RECIPE, read_json, write_bytes, write_sealed

__all__ = [
    "ZOO",
    "Classifier",
    "Entry",
    "Input",
    "Lineage",
    "check_classes",
    "create",
    "freeze",
    "load",
    "save",
]

FORMAT = 1
_SPARE = 1 << 20  # values that a net may have beyond its weights before it is built
_IMAGENET_1K = "ImageNet-1k"


@dataclass(frozen=True)
class Entry:
    """A net that MEAL V2 used, by its exact timm tag."""

    role: Literal["student", "teacher"]
    top1: float  # ImageNet-1k validation, in %, at the tag's own size, as timm's results-imagenet.csv has it
    data: str  # what the weights have seen
    note: str


_HALVES = "expects mean and std 0.5; MEAL V2 fed it ImageNet's"
_PAIR = "teacher of all students at 224 px"
ZOO: dict[str, Entry] = {
    "resnet18.tv_in1k": Entry("student", 69.75, _IMAGENET_1K, "MEAL V2 does not say where its ResNet-18 began"),
    "resnet50.ram_in1k": Entry("student", 79.03, _IMAGENET_1K, "trained with RandAugment and a JSD loss"),
    "tf_mobilenetv3_small_075.in1k": Entry("student", 65.71, _IMAGENET_1K, _HALVES),
    "tf_mobilenetv3_small_100.in1k": Entry("student", 67.92, _IMAGENET_1K, _HALVES),
    "tf_mobilenetv3_large_100.in1k": Entry("student", 75.51, _IMAGENET_1K, _HALVES),
    "tf_efficientnet_b0.aa_in1k": Entry("student", 76.88, _IMAGENET_1K, "trained with AutoAugment"),
    "senet154.gluon_in1k": Entry("teacher", 81.26, _IMAGENET_1K, _PAIR),
    "resnet152s.gluon_in1k": Entry("teacher", 81.05, _IMAGENET_1K, _PAIR),
    "tf_efficientnet_b4.ns_jft_in1k": Entry(
        "teacher", 85.16, "JFT-300M + ImageNet-1k", "teacher at 380 px; saw outside data: JFT-300M, by Noisy Student"
    ),
    "tf_efficientnet_b4.aa_in1k": Entry(
        "teacher", 83.04, _IMAGENET_1K, "teacher at 380 px; inferred to be MEAL V2's plain tf_efficientnet_b4"
    ),
}


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
    class_order: ClassOrder = "ask",
) -> Classifier:
    """Return a net for `classes`: a timm name (ours included), or tv/ and a torchvision name.

    Random weights from torch's global generator; or, where `pretrained`, what `load(name)` finds, with a new
    head where the classes differ (the lineage says so). What is not given (size in pixels, mean and std of
    pixels in [0, 1]) is as the name's own weights expect. Pretrained nets keep their channels. InputError for a
    name that is unknown, and for what it can't be built with.
    """
    if pretrained:
        if arguments:
            raise InputError("pretrained weights come with their own arguments; leave the arguments out")
        return _adjusted(_fitted(_load(name), classes, class_order), size, mean, std)
    _check_finished(name)
    base, given = base_of(name), dict(arguments or {})
    if size is not None and (key := size_argument(base)):
        given[key] = size
    made = Classifier(
        build(base, given, classes=len(classes), channels=channels),
        name=base,
        arguments=given,
        classes=classes,
        input=input_of(name, channels),
        lineage=Lineage(f"{base}, random weights"),
    )
    return _adjusted(made, size, mean, std)


def _adjusted(
    made: Classifier, size: int | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Classifier:
    own = made.input
    wanted = replace(own, size=size or own.size, mean=mean or own.mean, std=std or own.std)
    check_input(wanted, f"the input of {made.name}")
    key = size_argument(made.name)
    if key and wanted.size != made.arguments.get(key, own.size):
        raise InputError(f"{made.name} with these weights takes {own.size} px only; leave the size out")
    found = renewed(made, input=wanted)
    if size is not None:
        _check_sees(found)
    return found


def _check_sees(made: Classifier) -> None:
    """Refuse a size that the net can't take: its strides and pools may leave nothing of it."""
    training, seen = made.training, made.input
    try:
        with torch.no_grad():
            made.eval()(torch.zeros(1, *seen.shape))
    except Exception as error:  # architectures fail in their own ways
        raise InputError(f"{made.name} can't take {seen.size} px ({first_line(error)}); give another size") from error
    made.train(training)


def _fitted(found: Classifier, classes: tuple[str, ...], class_order: ClassOrder) -> Classifier:
    """Return `found` as it is where `classes` fit, else with a new, random head."""
    own = found.classes
    known = len(own) == len(classes) and (set(own) == set(classes) or own in (numbered(len(own)), imagenet_1k()))
    if known or numbered(len(own)) == classes:
        check_classes(found, classes, order=class_order)
        return found
    return _with_new_head(found, classes)


def _check_finished(spec: str) -> None:
    if (Path(spec) / RECIPE).is_file() and not (Path(spec) / "model.json").is_file():
        raise InputError(f"{spec} is unfinished: go on with --resume and the command that began it")


def _with_new_head(found: Classifier, classes: tuple[str, ...]) -> Classifier:
    """The head is what changes its shape with the number of classes."""
    old, channels = found.net.state_dict(), found.input.channels
    other = len(classes) + (len(classes) == len(found.classes))
    probe = build(found.name, found.arguments, classes=other, channels=channels).state_dict()
    kept = {key: old[key] for key, value in probe.items() if key in old and old[key].shape == value.shape}
    net = build(found.name, found.arguments, classes=len(classes), channels=channels)
    fill(net, net.state_dict() | kept, found.lineage.tag)
    lineage = replace(found.lineage, tag=f"{found.lineage.tag}, new head of {len(classes)} classes")
    return renewed(found, net=net, classes=classes, lineage=lineage)


def load(spec: str, *, classes: tuple[str, ...] | None = None, channels: int | None = None) -> Classifier:
    """Return the net that `spec` names, with all of its weights and no random one.

    `spec` is a run folder, a pinned timm tag (`resnet50.ram_in1k`), `tv/NAME.WEIGHTS`, either of these and the
    file that holds its published weights (`resnet50.ram_in1k@FILE`), an architecture and a file of any weights
    (`resnet50@FILE`), `local-dir:FOLDER` (as timm's save_for_hf writes) or `hf-hub:ID`. `classes` and `channels`
    are taken where a file does not say. InputError in all cases where the weights would not fill the net.
    """
    found = _load(spec, classes, channels)
    if not found.classes:
        raise InputError(f"{spec} has no classifier; fine-tune it first: limbeck teach --model {spec}")
    return found


def _load(spec: str, classes: tuple[str, ...] | None = None, channels: int | None = None) -> Classifier:
    if (Path(spec) / "model.json").is_file():
        return _from_run(Path(spec))
    _check_finished(spec)
    if spec.startswith("hf-hub:"):
        return _from_hub(spec)
    if spec.startswith("local-dir:"):
        return _from_timm_folder(Path(spec.removeprefix("local-dir:")), spec)
    name, _, file = spec.partition("@")
    if not file and spec.endswith(".program"):
        raise InputError(f"{spec} is a net in integers already; give the run that it was made of")
    if not file and Path(spec).is_file():
        raise InputError(f"{spec} is a file, which does not say of which net; give NAME@{spec}")
    if "/" in name.removeprefix(TORCHVISION) or Path(spec).is_dir():
        raise InputError(f"{spec} is not a run: no model.json is there; give a folder that limbeck wrote")
    if file and name == base_of(name):
        return _from_file(name, Path(file), classes, channels)
    check_pinned(name)
    state, sha256 = read_weights(Path(file) if file else published(name))
    if name.startswith(TORCHVISION):
        return _from_torchvision(name, state, sha256)
    return _from_timm(name, state, sha256)


def published(tag: str) -> Path:
    """Return the file of a pinned tag's weights, fetched if need be."""
    remedy = f"bring its weight file here by other means and give {tag}@FILE"
    if tag.startswith(TORCHVISION):
        import torchvision

        return from_url(torchvision.models.get_weight(_enum(tag)).url, remedy=remedy)
    config = config_of(tag)
    if not config.get("hf_hub_id"):
        raise InputError(f"{tag} is not on the hub; fetch {config.get('url')} and give {tag}@FILE")
    names = (config["hf_hub_filename"],) if config.get("hf_hub_filename") else WEIGHTS
    return from_hub(config["hf_hub_id"], names, remedy=remedy)


def _enum(tag: str) -> str:
    import torchvision

    base, _, member = tag.removeprefix(TORCHVISION).partition(".")
    return f"{torchvision.models.get_model_weights(base).__name__}.{member}"


def _from_timm(tag: str, state: dict[str, Tensor], sha256: str) -> Classifier:
    net = pretrained(tag, state)
    count, config = int(net.num_classes), config_of(tag)  # type: ignore[arg-type]
    data = ZOO[tag].data if tag in ZOO else ""
    return Classifier(
        net,
        name=base_of(tag),
        arguments={},
        classes=imagenet_1k() if count == 1000 else numbered(count),
        input=input_of(tag, 3),
        lineage=Lineage(tag, data, config.get("license") or "", sha256),
    )


def _from_torchvision(tag: str, state: dict[str, Tensor], sha256: str) -> Classifier:
    base, _, member = tag.partition(".")
    net = build(base, {}, classes=1000, channels=3)
    fill(net, state, tag)
    data = _IMAGENET_1K if member in ("IMAGENET1K_V1", "IMAGENET1K_V2") else ""
    return Classifier(
        net,
        name=base,
        arguments={},
        classes=imagenet_1k(),
        input=input_of(tag, 3),
        lineage=Lineage(tag, data, sha256=sha256),
    )


def _from_file(base: str, file: Path, classes: tuple[str, ...] | None, channels: int | None) -> Classifier:
    state, sha256 = read_weights(file)
    config = config_of(base)
    count = _length(state, config.get("classifier"), 0) or len(classes or ())
    width = _length(state, config.get("first_conv"), 1) or channels or 3
    if not count:
        raise InputError(f"{file} does not say how many classes {base} has; save it with timm's save_for_hf")
    net = build(base, {}, classes=count, channels=width)
    fill(net, state, str(file))
    return Classifier(
        net,
        name=base,
        arguments={},
        classes=numbered(count),
        input=input_of(base, width),
        lineage=Lineage(f"{base}@{file}", sha256=sha256),
    )


def _length(state: dict[str, Tensor], module: object, axis: int) -> int | None:
    """Return the extent of a module's weight; `module` as timm's configuration gives it, one name or several."""
    name = module[0] if isinstance(module, list | tuple) else module
    weight = state.get(f"{name}.weight")
    return weight.shape[axis] if weight is not None and weight.ndim > axis else None


def _from_hub(spec: str) -> Classifier:
    repository = spec.removeprefix("hf-hub:")
    remedy = "bring its config.json and weights here by other means and give local-dir:FOLDER"
    from_hub(repository, remedy=remedy)
    return _from_timm_folder(from_hub(repository, ("config.json",), remedy=remedy).parent, spec)


def _from_timm_folder(folder: Path, spec: str) -> Classifier:
    """Load what timm's save_for_hf writes: config.json beside model.safetensors or pytorch_model.bin."""
    path = folder / "config.json"
    config = read_json(path)
    if "architecture" not in config and isinstance(config.get("architectures"), list):
        raise InputError(
            f"{folder} holds a {str(config['architectures'][:1])[2:-2][:60]} of the package transformers, which is not "
            "read here; choose the same net of timm, or save it as timm's (transformers' TimmWrapper is read)"
        )
    inner = _get(config, "pretrained_cfg", dict, path) if "pretrained_cfg" in config else config
    arguments = dict(_get(config, "model_args", dict, path)) if "model_args" in config else {}
    base = base_of(_get(config, "architecture", str, path))
    width = arguments.pop("in_chans", None) or (inner.get("input_size") or [3])[0]
    count = arguments.pop("num_classes", None) or config.get("num_classes", inner.get("num_classes"))
    if config.get("model_type") == "timm_wrapper" and isinstance(config.get("id2label"), dict):
        count = len(config["id2label"])  # what transformers goes by
    if type(count) is not int or not 0 < count <= 10**6 or type(width) is not int or width not in (1, 3):
        raise InputError(f"{path} does not say how many classes the net has, and that it has 1 or 3 channels")
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not files:
        raise InputError(f"{folder} holds no {' or '.join(WEIGHTS)}")
    state, sha256 = read_weights(files[0])
    net = build(base, arguments, classes=count, channels=width)
    fill(net, state, str(files[0]))
    return Classifier(
        net,
        name=base,
        arguments=arguments,
        classes=_label_names(config, inner, count),
        input=resolve(inner, width),
        lineage=Lineage(spec, licence=str(inner.get("license") or ""), sha256=sha256),
    )


def _label_names(config: dict[str, Any], inner: dict[str, Any], count: int) -> tuple[str, ...]:
    """Return the classes' names: those of timm, or of transformers' id2label; numbers where there are none."""
    names = config.get("label_names", inner.get("label_names"))
    if names is None and isinstance(by_id := config.get("id2label"), dict):
        names = [by_id.get(str(place)) for place in range(count)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return numbered(count)
    return tuple(names) if len(names) == len(set(names)) == count else numbered(count)


def save(classifier: Classifier, folder: Path) -> Lineage:
    """Write model.safetensors and model.json into `folder`; return the lineage with the weights' SHA-256."""
    data = pack(getattr(classifier.net, "_orig_mod", classifier.net))  # a compiled net keeps the plain one there
    lineage = replace(classifier.lineage, sha256=digest(data))
    document = {
        "format": FORMAT,
        "name": classifier.name,
        "arguments": classifier.arguments,
        "classes": _own_classes(classifier),
        "input": {**{k: v for k, v in asdict(classifier.input).items() if k != "white"}, **whiter(classifier.input)},
        "lineage": asdict(lineage),
    }
    write_bytes(Path(folder) / "model.safetensors", data)
    write_sealed(Path(folder) / MODEL, document)
    return lineage


def _own_classes(classifier: Classifier) -> list[str]:
    """Return the classes in the order of the net's outputs."""
    classes = list(classifier.classes)
    if classifier.order is not None:
        for place, name in zip(classifier.order.tolist(), classifier.classes, strict=True):
            classes[place] = name
    return classes


def _from_run(folder: Path) -> Classifier:
    path, weights = folder / "model.json", folder / "model.safetensors"
    document = read_json(path)
    _only(document, {"format", "name", "arguments", "classes", "input", "lineage"}, path)
    if document.get("format") != FORMAT:
        raise InputError(f"{path} has format {document.get('format')!r}; this version reads {FORMAT}")
    classes = _get(document, "classes", list, path)
    if not all(isinstance(name, str) for name in classes) or not 0 < len(classes) == len(set(classes)):
        raise InputError(f"{path}: classes must be different names")
    seen = _read_input(_get(document, "input", dict, path), path)
    lineage = _read_lineage(_get(document, "lineage", dict, path), path)
    name, arguments = _get(document, "name", str, path), _get(document, "arguments", dict, path)
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {weights}: {error.strerror}") from error
    if digest(data) != lineage.sha256:
        raise InputError(f"{weights} is not what {path} was written with; one of the two has changed since")
    state = unpack(data, weights)
    _check_size(base_of(name), arguments, len(classes), seen.channels, state, path)
    net = build(base_of(name), arguments, classes=len(classes), channels=seen.channels)
    fill(net, state, str(weights))
    return Classifier(net, name=name, arguments=arguments, classes=tuple(classes), input=seen, lineage=lineage)


def _check_size(
    base: str, arguments: dict[str, Any], classes: int, channels: int, state: dict[str, Tensor], path: Path
) -> None:
    """Refuse a net that is larger than its weights, before it takes any memory."""
    try:
        with torch.device("meta"):
            own = build(base, arguments, classes=classes, channels=channels).state_dict()
    except InputError:  # a net that can't be without values, or not at all, which `build` says next
        return
    needed, there = (sum(value.numel() for value in values.values()) for values in (own, state))
    if needed > 2 * there + _SPARE:  # `fill` says what else does not fit
        raise InputError(f"{path} describes a net of {needed:,} values, and {there:,} lie beside it; they do not fit")


def _only(document: dict[str, Any], known: set[str], path: Path) -> None:
    if unknown := sorted(set(document) - known):
        raise InputError(f"{path} has unknown fields: {', '.join(unknown[:5])}")


def _get(document: dict[str, Any], key: str, kind: type, path: Path) -> Any:  # noqa: ANN401 - of that kind
    value = document.get(key)
    if type(value) is not kind:
        raise InputError(f"{path}: {key} must be a {kind.__name__}, not {type(value).__name__}")
    return value


def _read_input(document: dict[str, Any], path: Path) -> Input:
    _only(document, {"size", "channels", "mean", "std", "interpolation", "crop_pct", "white"}, path)
    size, channels = _get(document, "size", int, path), _get(document, "channels", int, path)
    mean, std = (_numbers(_get(document, key, list, path), path) for key in ("mean", "std"))
    (crop_pct,) = _numbers([document.get("crop_pct")], path)
    white = _get({"white": WHITE, **document}, "white", int, path)
    found = Input(size, channels, mean, std, _get(document, "interpolation", str, path), crop_pct, white)
    check_input(found, str(path))
    return found


def _numbers(values: list[Any], path: Path) -> tuple[float, ...]:
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in values):
        raise InputError(f"{path}: mean, std and crop_pct must be finite numbers")
    return tuple(float(value) for value in values)


def _read_lineage(document: dict[str, Any], path: Path) -> Lineage:
    _only(document, {"tag", "data", "licence", "sha256", "teachers"}, path)
    teachers = _get(document, "teachers", list, path)
    if not all(isinstance(teacher, dict) for teacher in teachers):
        raise InputError(f"{path}: teachers must be lineages")
    tag, data, licence, sha256 = (_get(document, key, str, path) for key in ("tag", "data", "licence", "sha256"))
    return Lineage(tag, data, licence, sha256, tuple(_read_lineage(teacher, path) for teacher in teachers))
