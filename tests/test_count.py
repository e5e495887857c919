"""Costs: torch's flop counter and the paper's arithmetic agree with the layer table; info stands on it."""

import json

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import InputError
from limbeck.nets import odenet, zoo
from limbeck.nets.count import bytes_of, count
from limbeck.verbs.info import info


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "dsodenet20"])
def test_layers_have_all_of_torchs_flops(name):
    net = timm.create_model(name).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        net(torch.zeros(1, 3, 64, 64))
    table = count(net, (3, 64, 64))
    assert 2 * sum(layer.macs for layer in table.layers) == flops.get_total_flops()
    assert table.elsewhere == 0
    assert table.parameters == sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "size", "published"),
    [("dsodenet20", 32, 6.16), ("dsodenet56", 32, 19.2), ("dsodenet_l", 96, 162), ("dsodenet_l", 224, 882)],
)
def test_bodies_cost_what_concatenated_time_would(name, size, published):
    net = timm.create_model(name)
    steps = {layer: block.steps for layer, block in odenet.ode_blocks(net).items()}
    macs = 0
    for layer in count(net, (3, size, size)).part("layer").layers:
        # at t = 0 time adds nothing, so its map is not computed in the first step
        first = layer.macs // layer.executions if ".time." in layer.name else 0
        assert layer.executions == steps.get(layer.name.split(".")[0], 1) - (first > 0)
        macs += layer.macs + first
    assert float(f"{macs / 1e6:.3g}") == published


def test_a_layer_is_what_its_shape_says():
    table = count(timm.create_model("dsodenet20"), (3, 32, 32))
    layer = next(layer for layer in table.layers if layer.name == "layer1.f.conv1.space.pointwise")
    assert (layer.kind, layer.output, layer.executions, layer.parameters) == ("Conv2d", (16, 32, 32), 3, 256)
    assert (layer.macs, layer.activations) == (3 * 256 * 1024, 3 * 16_384)
    assert table.largest_map == 16_384
    assert bytes_of(layer.parameters) == {"float32": 1024, "int16": 512, "int8": 256}


def test_attentions_products_are_elsewhere():
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2)
    tokens, width = 17, 192
    assert count(net, (3, 64, 64)).elsewhere == 2 * (2 * tokens * tokens * width)


def test_shared_weights_count_once_and_transposed_convolutions_as_torch_counts():
    first, second = nn.Linear(12, 12, bias=False), nn.Linear(12, 12, bias=False)
    second.weight = first.weight
    net = nn.Sequential(nn.ConvTranspose2d(2, 3, 2, stride=2, bias=False), nn.Flatten(), first, second)
    table = count(net, (2, 1, 1))
    assert [layer.parameters for layer in table.layers] == [24, 144, 0]
    assert [layer.macs for layer in table.layers] == [24, 144, 144]
    assert table.elsewhere == 0


def test_counting_leaves_the_net_as_it_was():
    net = timm.create_model("dsodenet20").train()
    net.stem.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count(net, (3, 8, 8))
    assert net.training
    assert not net.stem.norm.training
    assert all(not module._forward_hooks for module in net.modules())
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def test_info_stands_the_net_beside_its_relatives():
    result = info("dsodenet20", channels=1)
    assert result.parameters == 23_680
    assert [other.model for other in result.beside] == ["resnet20", "odenet20"]
    assert round(result.beside[1].fewer_body_parameters, 2) == 86.46
    assert "54.2 to 79.8 %" in result.note
    assert "does not reproduce" in result.note
    assert json.loads(json.dumps(result.to_json()))["layers"][0]["name"] == "stem.conv"
    assert ("layer3_2.f.conv1.space.pointwise", "64x7x7") in [row[:2] for row in info("dsodenet20", size=28).rows()]


@pytest.mark.slow
def test_info_on_the_wide_net_and_on_a_foreign_one():
    (wide,) = info("dsodenet_l", size=32).beside
    assert round(wide.fewer_body_parameters, 2) == round(100 * (1 - 312_438 / 2_665_600), 2)
    assert info("dsodenet_l").shape == (3, 96, 96), "the size that it is made for"
    assert info("resnet18").beside == ()
    assert info("tv/resnet18", classes=1000).parameters == 11_689_512  # torchvision's own figure


def test_info_on_arguments(tmp_path):
    one = info("dsodenet20", arguments=("steps=1,2,1", "time=none"), channels=1)
    assert (one.parameters, one.beside, one.note) == (23_402, (), ""), "another net than its name says"
    assert one.macs < info("dsodenet20", channels=1).macs
    zoo.save(zoo.create("dsodenet20", classes=("a", "b"), channels=1, size=28), tmp_path)
    with pytest.raises(InputError, match="is a run, whose arguments are known; leave --arguments out"):
        info(str(tmp_path), arguments=("steps=1",))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"model": "dsodenet20", "arguments": ("steps=1,2",)},
            r"steps is \[1, 2\]; .* \(steps=1,2,3\)",
        ),
        ({"model": "dsodnet20"}, r"'dsodnet20' is not a net .*; did you mean dsodenet20"),
        ({"model": "dsodenet20", "size": 0}, "size 0, channels 3, classes 10: each must be at least 1"),
        ({"model": "tv/alexnet", "size": 28}, r"tv/alexnet can't take 28 px \(.*\); give another size"),
    ],
)
def test_info_says_what_is_wrong(keywords, message):
    with pytest.raises(InputError, match=message):
        info(**keywords)
