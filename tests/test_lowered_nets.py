"""Nets that users have become Programs from their own modules, and their integers stand for them."""

import numpy as np
import pytest
import torch
from test_lower import images_for, settled
from torch import nn

from limbeck.integer.lower import lower
from limbeck.integer.noise import noise
from limbeck.integer.program import run
from limbeck.integer.qat import prepare_qat
from limbeck.nets import zoo

pytestmark = pytest.mark.slow

SIDES = {  # an odd one here and there; all nets of the list, at their own sizes: benchmarks/nets.py
    "resnet18": 41,
    "resnet26d": 45,
    "repvgg_a0": 32,
    "mobilenetv1_100": 40,
    "mobilenetv2_100": 41,
    "mobilenetv3_small_075": 40,
    "mobilenetv4_conv_small": 64,
    "efficientnet_lite0": 48,
    "efficientnet_b0": 33,
    "regnetx_002": 33,
    "tv/squeezenet1_1": 50,
    "mlperf_resnet8": 32,
    "mlperf_mobilenetv1_025": 48,
}
WITH_TABLES = {"mobilenetv3_small_075", "efficientnet_b0"}  # which take 8 bits whatever the format


def lived_in(name, side, channels, classes):
    """Return a net with random weights whose norms have seen its own maps, so that no map vanishes."""
    torch.manual_seed(0)
    net = zoo.create(name, classes=tuple(map(str, range(classes))), channels=channels, size=side)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12  # else it is most of the variance behind weights as small as some nets begin with
    settled(net, 0)
    for module in net.modules():
        if hasattr(module, "reparameterize"):
            module.reparameterize()
    return net, images_for(net, 16)


@pytest.mark.parametrize("name", SIDES)
@torch.no_grad()
def test_the_integers_stand_for_the_net(name):
    """Every node's integers are its float operation's, 16 bits are the net, and training computes as the Program does.

    What 8 bits make of the whole is no law: behind forty layers of random weights a net that rounds each map to 25 dB
    and one that doesn't are strangers.
    """
    side = SIDES[name]
    net, images = lived_in(name, side, *((1, 7) if side % 2 else (3, 4)))
    program = lower(net, images)
    for node in noise(net, program, images):
        assert node.own_snr > (10 if node.saturated > 0.01 else 18), node
    forward = prepare_qat(net, images)(images[:4]).double().numpy() / program.scale
    assert np.abs(forward - run(program, images[:4].numpy())).max() < 0.01

    sixteen = lower(net, images, weight_bits=16, activation_bits=16, state_bits=24)
    for node in noise(net, sixteen, images):
        assert node.saturated or node.own_snr > (20 if node.formats.endswith("-> 8") else 55), node
    logits, found = net(images).numpy(), run(sixteen, images.numpy()) * sixteen.scale
    apart = [(values - values.mean(0)).ravel() for values in (logits, found)]  # what tells images apart
    assert np.corrcoef(*apart)[0, 1] > (0.6 if name in WITH_TABLES else 0.999)


@pytest.mark.parametrize(
    ("name", "size", "parameters"), [("mlperf_resnet8", 32, 77_946), ("mlperf_mobilenetv1_025", 96, 213_586)]
)
def test_mlperf_tiny_nets_are_as_large_as_published(name, size, parameters):
    net = zoo.create(name, classes=("a", "b"), channels=3)
    assert net.input.size == size
    head = net.net.get_classifier()
    others = sum(p.numel() for p in net.net.parameters()) - sum(p.numel() for p in head.parameters())
    assert others + (head.in_features + 1) * net.net.default_cfg["num_classes"] == parameters
