"""A classifier as the hub's and timm's users know it: config.json beside model.safetensors, and the way there."""

from pathlib import Path
from typing import Any, Literal

from limbeck.errors import InputError, first_line
from limbeck.nets.classifier import Classifier
from limbeck.nets.fetch import reach
from limbeck.nets.tags import TORCHVISION, config_of

_KEPT = ("fixed_input_size", "first_conv", "classifier")  # of timm's own configuration: what its loader asks for


def home_of(name: str) -> Literal["timm", "limbeck", "torchvision", "elsewhere"]:
    """Return who defines the architecture: timm knows limbeck's once their module is imported, and loads no weights
    into one that was registered without a configuration (elsewhere)."""
    from limbeck.nets import odenet, tiny

    if name.startswith(TORCHVISION):
        return "torchvision"
    if name in odenet.default_cfgs | tiny.default_cfgs:
        return "limbeck"
    return "timm" if config_of(name) else "elsewhere"


def config(found: Classifier, licence: str = "") -> dict[str, Any]:
    """Return config.json's content, in the layout that timm's hf-hub: and local-dir: read. Of a net that
    home_of says is neither's, limbeck alone reads it."""
    seen, count = found.input, len(found.classes)
    inner = {
        **{key: value for key, value in config_of(found.name).items() if key in _KEPT},
        "num_classes": count,
        "input_size": list(seen.shape),
        "mean": list(seen.mean),
        "std": list(seen.std),
        "interpolation": seen.interpolation,
        "crop_pct": seen.crop_pct,
        "crop_mode": "center",
        **({"license": licence} if licence else {}),
    }
    return {
        "architecture": found.name,
        "num_classes": count,
        "label_names": list(found.classes),
        "model_args": {**found.arguments, "in_chans": seen.channels},
        "pretrained_cfg": inner,
    }


def check_repository(repository: str) -> None:
    """Refuse what is no USER/NAME of a repository on the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"{repository[:80]!r} can't be a name on the hub: {first_line(error)}") from error
    if "/" not in repository:
        raise InputError(f"{repository} names no owner; give hf-hub:USER/{repository}")


def upload(folder: Path, repository: str, *, private: bool, message: str) -> str:
    """Put the folder's files into the repository USER/NAME, made if need be, in one commit; return its address.

    InputError where there is no token, the hub can't be reached, or it refuses: then nothing was committed.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    remedy = "push to local-dir:PATH and upload that folder by other means; no file was put there"
    if not get_token():
        raise InputError(f"the hub wants a token: run hf auth login, or set HF_TOKEN; or {remedy}")
    api = HfApi(library_name="limbeck")
    files = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
    try:
        reach(constants.ENDPOINT)
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        api.create_commit(repository, files, commit_message=message)
    except Exception as error:  # the hub's client raises what it likes
        raise InputError(f"could not push to {repository} ({first_line(error)}); {remedy}") from error
    return str(address)
