"""Published weights, fetched once and kept where timm and torchvision keep them."""

import contextlib
import urllib.error
import urllib.request
from pathlib import Path

import torch

from limbeck.errors import InputError, first_line

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PATIENCE = 10  # seconds; the hub's own client would try for most of a minute


def from_hub(repository: str, names: tuple[str, ...] = WEIGHTS, *, remedy: str) -> Path:
    """Return the first of the files `names` that `repository` (ID or ID@REVISION) has, from the cache where it is.

    `remedy` ends the sentence of the InputError for a machine that can't reach the hub.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    place, _, revision = repository.partition("@")
    for name in names:
        with contextlib.suppress(OSError, ValueError):  # not in the cache
            return Path(hf_hub_download(place, name, revision=revision or None, local_files_only=True))
    try:
        reach(constants.ENDPOINT)
        for name in names:
            try:
                return Path(hf_hub_download(place, name, revision=revision or None))
            except LocalEntryNotFoundError:  # also an EntryNotFoundError, of a hub that can't be reached
                raise
            except EntryNotFoundError:
                continue
    except Exception as error:  # the hub's client raises what it likes
        raise InputError(f"could not fetch {repository} from the hub ({first_line(error)}); {remedy}") from error
    raise InputError(f"the hub's {repository} holds no {' or '.join(names)}; {remedy}")


def from_url(url: str, *, remedy: str) -> Path:
    """Return the file that torchvision publishes at `url`, checked by the hash in its name, from the cache where it is.

    InputError, which `remedy` ends, where it can't be fetched.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    found = torch.hub.HASH_REGEX.search(path.name)
    try:
        reach(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), found[1] if found else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(f"could not fetch {url} ({first_line(error)}); {remedy}") from error
    return path


def reach(url: str) -> None:
    """Raise OSError where no server responds."""
    with contextlib.suppress(urllib.error.HTTPError):  # an answer
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE).close()
