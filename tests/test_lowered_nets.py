"""Nets that users have become Programs from their own modules, and their integers stand for them."""

import numpy as np
import pytest
import torch
from test_lower import images_for
from torch import nn

from limbeck.integer.lower import lower
from limbeck.integer.program import run
from limbeck.integer.qat import prepare_qat
from limbeck.nets import zoo

FAST = {  # name: side, an odd one here and there
    "resnet18": 41,
    "resnet26d": 45,
    "repvgg_a0": 32,
    "mobilenetv1_100": 40,
    "mobilenetv2_100": 41,
    "mobilenetv3_small_075": 40,
    "efficientnet_lite0": 48,
    "regnetx_002": 33,
    "tv/squeezenet1_1": 50,
    "mlperf_resnet8": 32,
    "mlperf_mobilenetv1_025": 48,
}
SLOW = {
    "resnet34": 40,
    "resnet50": 40,
    "vgg11_bn": 48,
    "mobilenetv3_small_100": 40,
    "mobilenetv3_large_100": 40,
    "mobilenetv4_conv_small": 64,
    "efficientnet_lite1": 40,
    "efficientnet_lite2": 40,
    "efficientnet_lite3": 40,
    "efficientnet_lite4": 40,
    "efficientnet_b0": 40,
    "mnasnet_100": 40,
    "fbnetc_100": 40,
    "tv/resnet18": 40,
    "tv/mobilenet_v2": 40,
    "tv/mobilenet_v3_small": 40,
}


def lived_in(name, side, channels, classes):
    """Return a net with random weights whose norms have seen its own maps."""
    torch.manual_seed(0)
    net = zoo.create(name, classes=tuple(map(str, range(classes))), channels=channels, size=side)
    for module in net.modules():
        if hasattr(module, "reparameterize"):
            module.reparameterize()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.7
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.3)
    images = images_for(net, 16)
    with torch.no_grad():
        net.train()
        for _ in range(3):
            net(images)
    return net.eval(), images


@torch.no_grad()
def check(name, side):
    """8-bit and 16-bit integers stand for the net, and training computes as the Program does."""
    channels, classes = (1, 7) if side % 2 else (3, 4)
    net, images = lived_in(name, side, channels, classes)
    logits = net(images).numpy()

    def correlation(program):
        wrong = run(program, images.numpy()) * program.scale
        return np.corrcoef((wrong - wrong.mean(0)).ravel(), (logits - logits.mean(0)).ravel())[0, 1]

    program = lower(net, images)
    assert correlation(program) > 0.6
    sixteen = lower(net, images, weight_bits=16, activation_bits=16, state_bits=24)
    assert correlation(sixteen) > (0.95 if "v3" in name or "_b0" in name else 0.9999)  # tables take 8 bits
    forward = prepare_qat(net, images)(images[:4]).double().numpy() / program.scale
    assert np.abs(forward - run(program, images[:4].numpy())).max() < 0.01


@pytest.mark.parametrize("name", FAST)
def test_the_integers_stand_for_the_net(name):
    check(name, FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_the_integers_stand_for_the_larger_net(name):
    check(name, SLOW[name])


@pytest.mark.parametrize(
    ("name", "size", "parameters"), [("mlperf_resnet8", 32, 77_946), ("mlperf_mobilenetv1_025", 96, 213_586)]
)
def test_mlperf_tiny_nets_are_as_large_as_published(name, size, parameters):
    net = zoo.create(name, classes=("a", "b"), channels=3)
    assert net.input.size == size
    head = net.net.get_classifier()
    others = sum(p.numel() for p in net.net.parameters()) - sum(p.numel() for p in head.parameters())
    assert others + (head.in_features + 1) * net.net.default_cfg["num_classes"] == parameters
