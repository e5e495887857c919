"""Fusing changes a frozen net's speed, and its answers by rounding alone."""

import pytest
import timm
import torch
from torch import nn

from limbeck.nets.fuse import can_fuse, fuse

pytestmark = pytest.mark.skipif(not can_fuse(), reason="this processor lacks AVX2, or this torch oneDNN")


def frozen(net):
    """The net with BatchNorms that do something, as after training."""
    torch.manual_seed(0)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1)
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def images(number=2, size=64, channels=3):
    return torch.randn(number, channels, size, size, generator=torch.Generator().manual_seed(1))


def differ(one, other, x):
    expected = one(x)
    return float((other(x) - expected).abs().max() / expected.abs().max())


def norms(net):
    return sum(
        isinstance(net.get_submodule(n.target), nn.BatchNorm2d) for n in net.graph.nodes if n.op == "call_module"
    )


class Block(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.silu = nn.SiLU(inplace=True)
        self.first, self.second, self.third, self.join = (
            nn.Conv2d(3, 8, 1),
            nn.Conv2d(8, 8, 1),
            nn.Conv2d(8, 8, 1),
            join,
        )

    def forward(self, x):
        x = self.first(x)
        return self.join(x, self.norm(self.conv(x)), self)


@pytest.mark.parametrize("name", ["resnet18", "resnet26d", "seresnet18", "mobilenetv3_small_050", "tf_efficientnet_b0"])
def test_a_fused_net_answers_alike_and_has_no_batch_norm(name):
    net = frozen(timm.create_model(name, num_classes=10))
    fused = fuse(net, images(1))
    assert norms(fused) <= (0 if "efficientnet" not in name else 17)  # squeezes between the two stay
    assert differ(net, fused, images()) < 1e-5


def test_fusing_leaves_the_net_as_it_was():
    net = frozen(timm.create_model("resnet18", num_classes=10))
    before = net(images())
    fuse(net, images(1))
    assert torch.equal(net(images()), before)


@pytest.mark.slow
def test_a_fused_net_takes_other_batches_and_sizes_than_its_first():
    net = frozen(timm.create_model("resnet18", num_classes=10))
    fused = fuse(net, images(1))
    for number, size in ((5, 64), (1, 96), (3, 33), (32, 64)):
        assert differ(net, fused, images(number, size)) < 1e-5


@pytest.mark.skipif(not can_fuse(torch.bfloat16), reason="this processor lacks oneDNN's bfloat16")
def test_a_fused_net_in_bfloat16_is_as_near_as_the_net_in_bfloat16():
    net = frozen(timm.create_model("resnet18", num_classes=10))
    expected, x = net(images(8)), images(8).bfloat16()
    fused = fuse(net, images(1)).to(torch.bfloat16)(x).float()
    plain = frozen(timm.create_model("resnet18", num_classes=10))
    plain.load_state_dict(net.state_dict())
    error = (plain.to(torch.bfloat16)(x).float() - expected).norm()
    assert (fused - expected).norm() < 1.5 * error


@pytest.mark.parametrize(
    "join",
    [
        lambda x, y, block: block.act(x + y),
        lambda x, y, block: block.act(y + x) + x,  # what is added is used again
        lambda x, y, block: block.act(y + x) + block.second(x),  # and so once more
        lambda x, y, block: block.second(x) + block.act(block.third(y) + x),
        lambda x, y, block: block.third(block.act(block.second(y) + y)) + block.second(y),
        lambda x, y, block: block.act(torch.add(x, y, alpha=2)),
        lambda x, y, block: y + x.mean((2, 3), keepdim=True),  # broadcast
        lambda x, y, block: nn.functional.silu(y + x),
        lambda x, y, block: block.silu(y + x),
        lambda x, y, block: block.silu(y),
        lambda x, y, block: y + y,
        lambda x, y, block: y + 1,
        lambda x, y, block: block.act(y) + y,
        lambda x, y, block: block.second(x) + block.second(y),  # a convolution twice
        lambda x, y, block: (x[:, :4] + y[:, :4]) * x[:, 4:],  # views
        lambda x, y, block: block.act(y + block.second(x)) * x.flatten(1).view_as(x),
    ],
)
def test_whatever_way_a_sum_is_written_the_answer_is_the_same(join):
    block = frozen(Block(join))
    fused = fuse(block, images(1, 8))
    assert fused is not block
    assert norms(fused) == 0
    assert differ(block, fused, images(4, 8)) < 1e-5


def test_the_sums_of_a_resnet_are_written_in_place():
    fused = fuse(frozen(timm.create_model("resnet26d", num_classes=10)), images(1))
    assert sum(getattr(module, "in_place", False) for module in fused.modules()) == 8


def test_a_net_whose_path_depends_on_its_input_stays_itself():
    block = frozen(Block(lambda x, y, block: y if y.sum() > 0 else x))
    assert fuse(block, images(1, 8)) is block


def test_a_convolution_that_computes_its_weights_is_left_alone():
    conv = timm.layers.StdConv2d(3, 8, 3, bias=False)
    net = frozen(nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU()))
    fused = fuse(net, images(1, 8))
    assert norms(fused) == 1
    assert differ(net, fused, images(2, 8)) == 0
