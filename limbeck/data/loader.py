"""Batches in an order that (seed, epoch) decides alone, on any number of ranks and workers."""

from dataclasses import dataclass

from torch import Tensor

from limbeck.data.views import Views


@dataclass(frozen=True)
class Mix:
    """Mixup or CutMix: image i is share[i] of itself and 1 - share[i] of image partner[i] of the same batch."""

    partner: Tensor  # int64 [N]
    share: Tensor  # float32 [N], in [0, 1]


@dataclass(frozen=True)
class Batch:
    """What a step gets."""

    images: Tensor  # uint8 [N, channels, height, width], on the device, mixed if `mix` says so
    labels: Tensor | None  # int64 [N]; None where the source has none
    indices: Tensor  # int64 [N], the images' places in the source
    views: Views
    mix: Mix | None = None
    targets: Tensor | None = None  # float32 [N, classes]: stored soft labels, where a label store serves them
