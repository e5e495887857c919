"""What timm asks of a net that is registered with it."""

from collections.abc import Callable

from timm.layers.classifier import ClassifierHead
from torch import Tensor, nn


class Registered(nn.Module):
    """A classifier whose head timm can replace: images [N, in_chans, H, W] in, logits [N, num_classes] out."""

    num_classes: int
    head: ClassifierHead
    forward_features: Callable[[Tensor], Tensor]  # each net's own method: the last maps

    def get_classifier(self) -> nn.Module:
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        scores: Tensor = self.head(x, pre_logits=pre_logits)
        return scores

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def configuration(size: int, classes: int, pool: int, first_conv: str) -> dict[str, object]:
    """Return timm's configuration of a net without weights, for images of `size` px, whose last maps have `pool`."""
    return {
        "url": "",
        "num_classes": classes,
        "input_size": (3, size, size),
        "pool_size": (pool, pool),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": first_conv,
        "classifier": "head.fc",
    }
