"""MLPerf Tiny's two image classifiers, registered with timm when this module is imported.

mlperf_resnet8 (image classification, 32 px) and mlperf_mobilenetv1_025 (visual wake words, 96 px), layer for layer as
mlcommons/tiny trains them in Keras; but padding is the same on both sides, where TensorFlow puts it at the end.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from timm.layers.classifier import ClassifierHead
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from limbeck.nets.norm import BatchNorm
from limbeck.nets.registered import Registered, configuration

_WIDTHS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution with BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, BatchNorm(outputs))


class Block(nn.Module):
    """Two convolutions and a shortcut: a 1x1 convolution where the map changes its shape."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(inputs, outputs, stride=stride), _conv(outputs, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class Tiny(Registered):
    """A classifier: images [N, in_chans, H, W] in, logits [N, num_classes] out."""

    def __init__(
        self,
        body: Callable[[int], nn.Module],
        features: int,
        *,
        in_chans: int = 3,
        num_classes: int = 10,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features, self.head_hidden_size = num_classes, features, features
        self.body = body(in_chans)
        self.head = ClassifierHead(features, num_classes, pool_type=global_pool, drop_rate=drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)
        return features


def _resnet8(channels: int) -> nn.Module:
    blocks = [Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    return nn.Sequential(_conv(channels, 16), nn.ReLU(), *blocks)


def _mobilenetv1(channels: int) -> nn.Module:
    layers, width = [_conv(channels, 8, stride=2), nn.ReLU()], 8
    for outputs, stride in _WIDTHS:
        depthwise, pointwise = _conv(width, width, stride=stride, groups=width), _conv(width, outputs, size=1)
        layers += [depthwise, nn.ReLU(), pointwise, nn.ReLU()]
        width = outputs
    return nn.Sequential(*layers)


def _create(name: str, body: Callable[[int], nn.Module], features: int, keywords: dict[str, Any]) -> nn.Module:
    net: nn.Module = build_model_with_cfg(Tiny, name, False, body=body, features=features, **keywords)
    return net


default_cfgs = {  # timm looks for this name
    "mlperf_resnet8": configuration(32, 10, 8, "body.0.0"),
    "mlperf_mobilenetv1_025": configuration(96, 2, 3, "body.0.0"),
}


@register_model
def mlperf_resnet8(pretrained: bool = False, **keywords: Any) -> nn.Module:  # noqa: ANN401 - timm passes its own too
    """Return MLPerf Tiny's ResNet-8."""
    return _create("mlperf_resnet8", _resnet8, 64, keywords)


@register_model
def mlperf_mobilenetv1_025(pretrained: bool = False, **keywords: Any) -> nn.Module:  # noqa: ANN401
    """Return MLPerf Tiny's MobileNetV1, a quarter as wide."""
    return _create("mlperf_mobilenetv1_025", _mobilenetv1, 256, keywords)
