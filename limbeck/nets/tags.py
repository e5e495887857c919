"""What timm, torchvision and Limbeck's own family say of an architecture, or of a tag: the net and its input."""

import contextlib
import dataclasses
import difflib
import inspect
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.nets import zeroshot
from limbeck.nets.classifier import INTERPOLATIONS, LARGEST_SIDE, Input, check_input

TORCHVISION = "tv/"
# The arguments that timm's nets take besides classes and channels, and torchvision's.
_TIMM_ARGUMENTS = frozenset({"img_size", "drop_rate", "drop_path_rate", "global_pool"})
_TORCHVISION_ARGUMENTS = frozenset({"image_size"})
_UNSAID = {"input_size": (3, 224, 224)}  # timm's default: of a net that somebody registered without a configuration


def base_of(name: str) -> str:
    """Return the architecture of a name or tag; InputError where it is unknown."""
    if name.startswith(zeroshot.PREFIX):
        return name
    base = name.partition(".")[0]
    names = _architectures(base)
    if base not in names:
        near = " or ".join(difflib.get_close_matches(base, names, 3))
        hint = f"; did you mean {near}?" if near else ""
        raise InputError(f"{base[:80]!r} is not a net that timm, torchvision (tv/NAME) or limbeck knows{hint}")
    return base


def _architectures(like: str) -> list[str]:
    if like.startswith(TORCHVISION):
        import torchvision

        two_headed = ("googlenet", "inception_v3")
        names = torchvision.models.list_models(module=torchvision.models, exclude=two_headed)
        return [TORCHVISION + name for name in names]
    import timm

    from limbeck.nets import odenet, tiny  # noqa: F401 - they register ours

    return timm.list_models()


def tags_of(base: str) -> list[str]:
    """Return all pinned tags of an architecture."""
    if base.startswith(TORCHVISION):
        import torchvision

        members = torchvision.models.get_model_weights(base.removeprefix(TORCHVISION)).__members__
        return [f"{base}.{member}" for member in members if member != "DEFAULT"]
    import timm

    return timm.list_pretrained(f"{base}.*")


def check_pinned(tag: str) -> None:
    """Refuse a name that does not pin its weights: what a plain name means changes with the library's version."""
    tags = tags_of(base_of(tag))
    if tag not in tags:
        choice = f"choose from {', '.join(tags)}" if tags else "there are none; train it, or give NAME@FILE"
        raise InputError(f"{tag} does not say which weights; {choice}")


def config_of(name: str) -> dict[str, Any]:
    """Return timm's configuration of a name or tag; empty for torchvision's."""
    base = base_of(name)
    if base.startswith((TORCHVISION, zeroshot.PREFIX)):
        return {}
    import timm

    if name != base:
        check_pinned(name)
    found = timm.get_pretrained_cfg(name)
    return dataclasses.asdict(found) if found else {}


def input_of(name: str, channels: int) -> Input:
    """Return what the weights of a name or tag expect to see, for nets with `channels`."""
    base = base_of(name)
    if not base.startswith(TORCHVISION):
        return resolve(config_of(name) or _UNSAID, channels)
    import torchvision

    if name != base:
        check_pinned(name)
    weights = torchvision.models.get_model_weights(base.removeprefix(TORCHVISION))
    seen = weights[name.partition(".")[2] or "DEFAULT"].transforms()
    (size,), (resized,) = seen.crop_size, seen.resize_size
    mean, std, interpolation = tuple(seen.mean), tuple(seen.std), seen.interpolation.value
    return _spread(Input(size, 3, mean, std, interpolation, size / resized), channels)


def resolve(config: dict[str, Any], channels: int) -> Input:
    """Return the input that a timm configuration describes, for nets with `channels`; InputError where it does not."""
    from timm.data.config import resolve_data_config

    try:
        seen = resolve_data_config(pretrained_cfg=config)  # type: ignore[no-untyped-call]
        mean, std = (tuple(float(value) for value in seen[key]) for key in ("mean", "std"))
        interpolation = seen["interpolation"] if seen["interpolation"] in INTERPOLATIONS else "bicubic"
        size, crop_pct = int(seen["input_size"][-1]), float(seen["crop_pct"])
        found = _spread(Input(size, len(mean), mean, std, interpolation, crop_pct), channels)
    except (TypeError, ValueError, AssertionError, LookupError, ArithmeticError) as error:
        raise InputError(f"the net's configuration does not say what it expects to see: {error}") from error
    check_input(found, "the net's input")
    return found


def _spread(found: Input, channels: int) -> Input:
    """Return `found` for another number of channels: each takes the mean of the constants."""
    if channels == found.channels:
        return found
    mean, std = (sum(values) / len(values) for values in (found.mean, found.std))
    return replace(found, channels=channels, mean=(mean,) * channels, std=(std,) * channels)


def size_argument(base: str) -> str | None:
    """Return the argument that sets the size, for nets that take one size only."""
    if base.startswith(TORCHVISION):
        return "image_size" if base.startswith("tv/vit_") else None
    return "img_size" if config_of(base).get("fixed_input_size") else None


def build(base: str, arguments: dict[str, Any], *, classes: int, channels: int) -> nn.Module:
    """Return the architecture with random weights; InputError for arguments that it does not take."""
    if base.startswith(zeroshot.PREFIX):
        return zeroshot.build(arguments, classes=classes, channels=channels)
    _check_arguments(base, arguments)
    try:
        if base.startswith(TORCHVISION):
            return _torchvision_net(base, arguments, classes, channels)
        import timm

        net = timm.create_model(base, pretrained=False, num_classes=classes, in_chans=channels, **arguments)
    except InputError:
        raise
    except Exception as error:  # a bad value may fail anywhere in an architecture
        raise InputError(f"{base} can't be built with {arguments or 'no arguments'}: {error}") from error
    return net


def _torchvision_net(base: str, arguments: dict[str, Any], classes: int, channels: int) -> nn.Module:
    import torchvision

    if channels != 3:
        raise InputError(f"{base} takes 3 channels only, not {channels}; choose a timm net")
    name = base.removeprefix(TORCHVISION)
    net = torchvision.models.get_model(name, weights=None, num_classes=classes, **arguments)
    return cast(nn.Module, net)


def _check_arguments(base: str, arguments: dict[str, Any]) -> None:
    known = _arguments(base)
    for key, value in arguments.items():
        if key not in known:
            raise InputError(f"{base} takes no argument {key!r}, only {', '.join(sorted(known))}")
        values = value if isinstance(value, list | tuple) else [value]
        if not all(_is_plain(one) for one in values):
            raise InputError(f"{base}: {key} must be a number, a word or a list of these, not {value!r}")
        if key.startswith("drop_") and (type(value) not in (int, float) or not 0 <= value < 1):
            raise InputError(f"{base}: {key} is {value!r}; it must be a number from 0 to below 1")


def _is_plain(value: object) -> bool:
    match value:
        case str():
            return len(value) <= 64
        case int() | float():
            return abs(value) <= LARGEST_SIDE  # False for NaN
        case _:
            return value is None


def _arguments(base: str) -> frozenset[str]:
    if base.startswith(TORCHVISION):
        return _TORCHVISION_ARGUMENTS
    from limbeck.nets.odenet import OdeNet, default_cfgs

    if base in default_cfgs:
        return frozenset(inspect.signature(OdeNet).parameters) - {"layout", "in_chans", "num_classes"}
    return _TIMM_ARGUMENTS


def pretrained(tag: str, state: dict[str, Tensor]) -> nn.Module:
    """Return timm's net of a pinned tag, filled with `state`, its own weights by name as they were published.

    InputError where they are not these, or not all.
    """
    import timm

    try:
        with _missing_keys() as missing:
            # timm renames old keys on the way
            net = timm.create_model(tag, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"these are not the weights of {tag}: {str(error)[:500]}") from error
    if missing:
        raise InputError(f"these are not all the weights of {tag}: {missing[0][:500]}")
    return net


@contextlib.contextmanager
def _missing_keys() -> Iterator[list[str]]:
    """Yield what timm logs about missing keys: it loads a few of its families non-strictly."""
    logged: list[str] = []

    def listen(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("Missing keys"):
            logged.append(record.getMessage())
        return False

    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.addFilter(listen)
    logger.setLevel(logging.INFO)
    try:
        yield logged
    finally:
        logger.setLevel(level)
        logger.removeFilter(listen)
