"""Text–image models (CLIP, SigLIP, by open_clip) as classifiers: class names become the last layer."""

import copy
import dataclasses
import difflib
import importlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import InputError, first_line
from limbeck.nets.classifier import INTERPOLATIONS, Classifier, Input, Lineage, check_input
from limbeck.nets.fetch import from_hub, from_url
from limbeck.nets.weights import SUFFIXES
from limbeck.runs import read_json

PREFIX = "open-clip/"
CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "model.safetensors", "pytorch_model.bin",
)  # fmt: skip
_ARGUMENTS = ("embed_dim", "quick_gelu", "vision_cfg")
_SEEN = ("mean", "std", "interpolation")
_LARGEST = 16384
_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
_TOKENIZING = {"clean", "strip_sep_token", "language"}  # others would reach transformers, which can run a folder's code


class ZeroShot(nn.Module):
    """An image tower; logits are the cosines of what it gives with each class's text, scaled."""

    def __init__(self, visual: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.visual = visual
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(F.normalize(self.visual(images), dim=-1))
        return logits


@dataclass(frozen=True)
class TextImage:
    """A text–image model with its weights, and how it sees."""

    spec: str
    name: str  # of the architecture
    model: Any  # open_clip's
    tokenizer: Any
    arguments: dict[str, Any]  # of the image tower, for `build`
    input: Input

    @property
    def templates(self) -> tuple[str, ...]:
        """The 80 prompts that CLIP's authors used on ImageNet; {} stands for the class."""
        return tuple(template("{}") for template in _open_clip().OPENAI_IMAGENET_TEMPLATES)


def build(arguments: dict[str, Any], *, classes: int, channels: int) -> ZeroShot:
    """Return a text–image model's image tower with random weights and a layer for `classes`."""
    if channels != 3:
        raise InputError(f"text–image models take 3 channels only, not {channels}")
    _check_vision(arguments, "the text–image model")
    vision = {**copy.deepcopy(arguments["vision_cfg"]), "timm_model_pretrained": False}
    made = _open_clip().CLIP(
        embed_dim=arguments["embed_dim"], vision_cfg=vision, text_cfg=_NO_TEXT, quick_gelu=arguments["quick_gelu"]
    )
    return ZeroShot(made.visual, arguments["embed_dim"], classes)


def zero_shot(
    found: TextImage,
    classes: tuple[str, ...],
    phrases: Sequence[tuple[str, ...]],
    templates: tuple[str, ...],
    *,
    temperature: float = 1.0,
) -> Classifier:
    """Return the classifier of `classes`, each described by the mean embedding of its phrases in all templates.

    Logits are those of the model's own scale, divided by `temperature`. What all classes share is taken off, which no
    softmax sees: small logits lose less in bfloat16.
    """
    scale = found.model.logit_scale.detach().exp().flatten()[0] / temperature
    weight = scale * embedded(found, phrases, templates)
    net = build(found.arguments, classes=len(classes), channels=3)
    net.visual.load_state_dict(found.model.visual.state_dict())
    with torch.no_grad():
        net.head.weight.copy_(weight - weight.mean(0))
        net.head.bias.zero_()
    return Classifier(
        net, name=PREFIX + found.name, arguments=found.arguments, classes=classes, input=found.input,
        lineage=Lineage(f"open_clip {found.spec}, zero-shot"),
    )  # fmt: skip


@torch.no_grad()
def embedded(found: TextImage, phrases: Sequence[tuple[str, ...]], templates: tuple[str, ...]) -> Tensor:
    """Return float32 [classes, features] of norm 1: of each class the mean over its phrases in all templates."""
    rows = []
    for own in phrases:
        texts = [template.replace("{}", phrase) for phrase in own for template in templates]
        features = found.model.encode_text(found.tokenizer(texts))
        rows.append(F.normalize(F.normalize(features, dim=-1).mean(0), dim=0))
    return torch.stack(rows).float()


def load(spec: str) -> TextImage:
    """Return the text–image model that `spec` names, with all of its weights.

    `spec` is open_clip's ARCH/TAG, ARCH/TAG@FILE or ARCH@FILE with the weights in a file, local-dir:FOLDER as open_clip
    saves for the hub, or hf-hub:ID. InputError where it can't be had; nothing in a file is run.
    """
    place, weights, seen = _found(spec)
    model_cfg = _config(place)
    arguments: dict[str, Any] = {
        "quick_gelu": False,
        **{key: model_cfg.get(key) for key in _ARGUMENTS if key in model_cfg},
    }
    if "quick_gelu" in seen:  # of a tag, whose architecture may be used by weights of both kinds
        arguments["quick_gelu"] = seen["quick_gelu"]
    _check_vision(arguments, spec)
    _check_text(model_cfg, spec)
    model = _filled(place, weights, spec, quick_gelu=arguments["quick_gelu"])
    seen = {**model.visual.preprocess_cfg, **seen}
    name = re.split("[/@]", spec)[0] if place in _open_clip().list_models() else Path(place).name
    return TextImage(spec, name[:64], model, _tokenizer(place, spec), arguments, _input(seen, spec))


def _config(place: str) -> dict[str, Any]:
    kind, _, folder = place.partition(":")
    if kind != "local-dir":
        return dict(_open_clip().get_model_config(place))
    document = read_json(Path(folder) / CONFIG)
    found = document.get("model_cfg") if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise InputError(f"{Path(folder) / CONFIG} holds no model_cfg; save the model as open_clip does")
    return found


def _found(spec: str) -> tuple[str, Path, dict[str, Any]]:
    """Return what open_clip calls the model, its weights' file, and what its tag says of its input."""
    kind, _, place = spec.partition(":")
    if kind == "hf-hub":
        remedy = f"bring its {CONFIG}, weights and tokenizer here by other means and give local-dir:FOLDER"
        weights = from_hub(place, WEIGHTS, remedy=remedy)
        folder = from_hub(place, (CONFIG,), remedy=remedy).parent
        return f"local-dir:{folder}", weights, {}
    if kind == "local-dir":
        folder = Path(place)
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"{folder} holds no {CONFIG}, which open_clip writes beside its weights; give another folder"
            )
        files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
        if not files:
            raise InputError(f"{folder} holds none of {', '.join(WEIGHTS)}")
        return spec, files[0], {}
    clip = _open_clip()
    named, _, file = spec.partition("@")
    arch, _, tag = named.partition("/")
    if arch not in clip.list_models():
        near = " or ".join(difflib.get_close_matches(arch, clip.list_models(), 3))
        hint = f"; did you mean {near}?" if near else ""
        raise InputError(f"{arch[:80]!r} is not a text–image model that open_clip knows{hint}")
    tags = clip.list_pretrained_tags_by_model(arch)
    if tag not in tags and (tag or not file):
        raise InputError(
            f"{spec} does not say which weights; choose {arch}/TAG of {', '.join(tags) or 'none'}, or {arch}@FILE"
        )
    known = clip.get_pretrained_cfg(arch, tag or (tags or [""])[0])
    seen = {key: known[key] for key in _SEEN if key in known}
    if tag:
        seen["quick_gelu"] = bool(known.get("quick_gelu"))
    return arch, Path(file) if file else _published(spec, known), seen


def _published(spec: str, known: dict[str, Any]) -> Path:
    """Return the file of a tag's weights, fetched if need be."""
    remedy = f"bring the file here by other means and give {spec}@FILE"
    if not known.get("hf_hub"):
        return from_url(known["url"], remedy=remedy)
    repository, _, name = known["hf_hub"].rpartition("/")
    return from_hub(repository, (name,) if name else WEIGHTS, remedy=remedy)


def _filled(place: str, weights: Path, spec: str, *, quick_gelu: bool) -> Any:  # noqa: ANN401 - open_clip's
    """Return open_clip's model with all of its weights."""
    if weights.suffix not in SUFFIXES or not weights.is_file():
        raise InputError(f"{weights} is no weight file; give one that ends in {', '.join(SUFFIXES)}")
    own = (
        None if place.startswith("local-dir:") else str(weights)
    )  # a folder's file is found by open_clip, in our order
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _open_clip().create_model(
                place, own, force_quick_gelu=quick_gelu, require_pretrained=True, weights_only=True
            )
    except ImportError as error:
        raise _lacking(spec, error) from error
    except Exception as error:  # a hostile file may fail anywhere in the reader
        raise InputError(f"{weights} was not loaded as {spec}: {first_line(error)}") from error
    values = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    if bad := [key for key, value in values.items() if not value.isfinite().all()]:
        raise InputError(f"the weights in {weights} hold values that are not finite, in {', '.join(bad[:5])}")
    return model.eval().requires_grad_(False)


def _tokenizer(place: str, spec: str) -> Any:  # noqa: ANN401 - open_clip's
    try:
        return _open_clip().get_tokenizer(spec if spec.startswith("hf-hub:") else place)
    except ImportError as error:
        raise _lacking(spec, error) from error
    except Exception as error:  # the hub's client raises what it likes
        raise InputError(
            f"the tokenizer of {spec} can't be had ({first_line(error)}); bring its files here by other means, into "
            f"the folder of its {CONFIG}, and give local-dir:FOLDER"
        ) from error


def _input(seen: dict[str, Any], spec: str) -> Input:
    size = seen["size"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if height != width:
        raise InputError(f"{spec} takes {height} x {width} pixels; only squares are cut from images")
    interpolation = seen["interpolation"] if seen["interpolation"] in INTERPOLATIONS else "bicubic"
    found = Input(int(width), 3, tuple(seen["mean"]), tuple(seen["std"]), interpolation, 1.0)
    check_input(found, f"the input of {spec}")
    return found


def _check_vision(arguments: dict[str, Any], where: str) -> None:
    """Refuse what no image tower has: a stranger's file may say anything."""
    import timm

    tower = arguments.get("vision_cfg")
    known = {field.name for field in dataclasses.fields(_open_clip().CLIPVisionCfg)}
    if set(arguments) != set(_ARGUMENTS) or not isinstance(tower, dict) or not set(tower) <= known:
        raise InputError(
            f"{where} is described otherwise than open_clip describes image towers ({', '.join(_ARGUMENTS)})"
        )
    if not _is_plain(list(arguments.values())):
        raise InputError(f"{where} is described by values that are neither numbers up to {_LARGEST} nor words")
    trunk = tower.get("timm_model_name")
    if trunk is not None and not (isinstance(trunk, str) and timm.is_model(trunk)):
        raise InputError(f"{where} has an image tower that timm does not know: {str(trunk)[:80]!r}")


def _check_text(config: dict[str, Any], where: str) -> None:
    """Refuse what is no dual encoder, and settings of a tokenizer by which its own code would run."""
    if "multimodal_cfg" in config:
        raise InputError(f"{where} is a CoCa model, which is not read here; choose a CLIP or SigLIP model")
    text = config.get("text_cfg")
    if not isinstance(text, dict) or not set(text.get("tokenizer_kwargs") or {}) <= _TOKENIZING:
        raise InputError(
            f"{where} has a text_cfg that is not read here; of tokenizer_kwargs {', '.join(_TOKENIZING)} are"
        )


def _is_plain(value: object) -> bool:
    match value:
        case dict():
            return _is_plain([*value.keys(), *value.values()])
        case list() | tuple():
            return all(_is_plain(one) for one in value)
        case str():
            return len(value) <= 64
        case int() | float():
            return abs(value) <= _LARGEST  # False for NaN
        case _:
            return value is None


def _open_clip() -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise _lacking("a text–image model", error) from error


def _lacking(what: str, error: ImportError) -> InputError:
    return InputError(f"{what} needs the package {error.name or first_line(error)}: pip install 'limbeck[clip]'")
