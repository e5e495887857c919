"""Views: augmentation as data. A view is drawn from (seed, epoch, index) and can be replayed from what it says."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """How views are drawn. `size` is the side of the square that a net gets, in pixels."""

    size: int
    kind: Literal["crop", "shift", "none"] = "crop"
    scale: tuple[float, float] = (0.08, 1.0)  # crop: area, as a share of the image's
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # crop: width over height
    shift: int = 2  # shift: pixels, each way, zeros come in
    flip: bool = True  # left-right, half of the views
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_pct: float = 0.875  # none: the centre share of the shorter side, as evaluation takes it


@dataclass(frozen=True)
class Views:
    """N views: `boxes` int16 [N, 4] (top, left, height, width in source pixels, may leave the image: zeros come
    in), `flips` bool [N]. 9 bytes a view when stored."""

    boxes: Tensor
    flips: Tensor
