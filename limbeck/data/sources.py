"""Sources: where images come from."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """N images of one split. Pixels are decoded when read, or all lie in `pixels`."""

    spec: str  # as the user gave it
    split: str  # "train", "val" or "test"
    classes: tuple[str, ...]  # sorted names; empty where there are no labels
    labels: Tensor | None  # int64 [N]
    keys: tuple[str, ...]  # the images' names, relative to the source
    channels: int  # 1 or 3
    sizes: Tensor  # int32 [N, 2], height and width in pixels
    read: Callable[
        [int], Image.Image
    ]  # image i in mode L or RGB, upright; InputError names what can't be decoded
    pixels: Tensor | None  # uint8 [N, channels, H, W]: small images of one size
    fingerprint: str  # sha256, hex, of names, sizes and labels; see `fingerprint_of`
    note: str = ""  # what the user should know: a split made here, broken files left out

    def __len__(self) -> int:
        return len(self.keys)
