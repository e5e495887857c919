"""The family: parameter tables to the last weight, time as a map, timm's conventions, steps, export."""

import io

import pytest
import timm
import torch
from tools import need
from torch import nn
from torch.nn import functional as F

from limbeck.errors import InputError
from limbeck.nets.odenet import DEPTHS, TimedConv, draw_steps, layout_of, ode_blocks, with_steps

VARIANTS = ("resnet{}", "odenet{}", "rodenet1_{}", "rodenet2_{}", "rodenet3_{}", "rodenet12_{}", "rodenet13_{}")
NAMES = [
    *("resnet8", "resnet14", "dsodenet_l"),
    *(variant.format(depth) for depth in DEPTHS for variant in (*VARIANTS, "dsodenet{}", "dsodenet{}_ode")),
]


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def total(name):
    return parameters(timm.create_model(name, num_classes=100))


def body(name):
    net = timm.create_model(name)
    return parameters(net) - parameters(net.stem) - parameters(net.head)


def test_odenets_layers_have_the_published_parameters():
    net = timm.create_model("odenet20", num_classes=100)
    assert {name: parameters(layer) for name, layer in net.named_children()} == {
        "stem": 464,
        "layer1": 4_960,
        "layer2_1": 13_952,
        "layer2_2": 19_136,
        "layer3_1": 55_552,
        "layer3_2": 75_136,
        "head": 6_500,
    }


@pytest.mark.parametrize(
    ("name", "against", "published"),
    [
        ("odenet20", "resnet20", 36.24),
        ("odenet56", "resnet56", 79.54),
        ("rodenet3_20", "resnet20", 43.29),
        ("rodenet3_56", "resnet56", 81.80),
        ("odenet32", "resnet32", 62.62),
        ("rodenet3_32", "resnet32", 66.75),
        ("odenet44", "resnet44", 73.56),
        ("rodenet3_44", "resnet44", 76.48),
    ],
)
def test_reductions_are_the_published_ones(name, against, published):
    assert round(100 * (1 - total(name) / total(against)), 2) == published


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("odenet20", 168_736), ("dsodenet20_ode", 82_998), ("dsodenet20", 22_854), ("dsodenet_l", 312_438)],
)
def test_bodies_have_the_parameters_of_the_reconstruction(name, wanted):
    assert body(name) == wanted
    assert body(name.replace("20", "56")) == wanted  # steps cost none


def test_the_grey_ten_class_student_has_23680_parameters():
    assert parameters(timm.create_model("dsodenet20", in_chans=1, num_classes=10)) == 23_680


def test_no_name_is_timms_and_all_can_be_made():
    assert len(NAMES) == 39
    for name in NAMES:
        assert timm.is_model(name)
        assert not hasattr(timm.models, name)
        assert timm.create_model(name, num_classes=7).get_classifier().out_features == 7


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_executes_as_many_blocks_as_resnet(variant, depth):
    executions = [stage.executions for stage in layout_of(variant.format(depth))]
    assert sum(executions) + 2 == (depth - 2) // 2


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("size", [(7, 5), (1, 2)])
def test_time_as_a_map_is_time_as_a_channel(separable, size):
    torch.manual_seed(0)
    conv = TimedConv(6, time=True, separable=separable)
    z, t = torch.randn(3, 6, *size), 0.37
    joined = torch.cat([z, torch.full((3, 1, *size), t)], 1)
    if separable:
        depthwise = torch.cat([conv.space.depthwise.weight, conv.time.depthwise.weight])
        joined = F.conv2d(joined, depthwise, padding=1, groups=7)
        wanted = F.conv2d(joined, torch.cat([conv.space.pointwise.weight, conv.time.pointwise.weight], 1))
    else:
        wanted = F.conv2d(joined, torch.cat([conv.space.weight, conv.time.weight], 1), padding=1)
    torch.testing.assert_close(conv(z, t), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(conv(z, 0.0), conv.space(z), rtol=0, atol=0)


@pytest.mark.parametrize("time", ["concat", "none"])
def test_an_ode_block_is_its_recurrence(time):
    torch.manual_seed(0)
    block = timm.create_model("odenet20", time=time, h=0.5, width=4).eval().layer1
    for call in range(3):  # statistics that differ from step to step
        block.f.norm1.running_mean[call] = block.f.norm2.running_mean[call] = call / 10
    z = wanted = torch.randn(2, 4, 6, 6)

    def conv(part, x, t):
        if time == "none":
            return part.space(x)
        weight = torch.cat([part.space.weight, part.time.weight], 1)
        return F.conv2d(torch.cat([x, torch.full_like(x[:, :1], t)], 1), weight, padding=1)

    def norm(part, x, call):
        statistics = part.running_mean[call], part.running_var[call]
        return F.batch_norm(x, *statistics, part.weight, part.bias)

    with torch.no_grad():
        for call in range(3):
            inner = F.relu(norm(block.f.norm1, conv(block.f.conv1, wanted, call / 3), call))
            wanted = wanted + 0.5 * norm(block.f.norm2, conv(block.f.conv2, inner, call / 3), call)
        torch.testing.assert_close(block(z), wanted, rtol=1e-5, atol=1e-5)


def test_every_weight_learns():
    torch.manual_seed(0)
    net = timm.create_model("dsodenet20", in_chans=1)
    F.cross_entropy(net(torch.randn(4, 1, 16, 16)), torch.arange(4)).backward()
    assert [name for name, weight in net.named_parameters() if not weight.grad.any()] == []


def test_memory_formats_agree():
    torch.manual_seed(0)
    net = timm.create_model("dsodenet20", in_chans=1).eval()
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        wanted = net(x)
        got = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stem", ["3x3", "3x3/2", "7x7"])
@pytest.mark.parametrize(("name", "size"), [("dsodenet20", 32), ("rodenet1_20", 32), ("dsodenet_l", 96)])
def test_features_have_the_sizes_that_timm_is_told(name, size, stem):
    net = timm.create_model(name, features_only=True, stem=stem).eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 3, size, size))
    sizes = [
        (channels, size // reduction)
        for channels, reduction in zip(net.feature_info.channels(), net.feature_info.reduction(), strict=True)
    ]
    assert [(m.shape[1], m.shape[3]) for m in maps] == sizes


def test_the_head_follows_timm():
    net = timm.create_model("dsodenet20", num_classes=5).eval()
    x = torch.randn(2, 3, 16, 16)
    features = net.forward_features(x)
    assert features.shape == (2, 64, 4, 4)
    assert torch.equal(net.forward_head(features), net(x))
    assert torch.equal(net.forward_head(features, pre_logits=True), features.mean((2, 3)))
    net.reset_classifier(3)
    assert net(x).shape == (2, 3)
    net.reset_classifier(0)
    assert net(x).shape == (2, net.num_features)


def test_keywords_shape_the_net():
    net = timm.create_model("dsodenet20", width=8, steps=(4, 1, 2), solver="rk4", h=0.25, time="none", dsc="none")
    blocks = ode_blocks(net)
    assert list(blocks) == ["layer1", "layer2_2", "layer3_2"]
    assert [(block.steps, block.h, block.solver) for block in blocks.values()] == [
        (4, 0.25, "rk4"),
        (1, 0.25, "rk4"),
        (2, 0.25, "rk4"),
    ]
    assert blocks["layer1"].f.norm1.running_mean.shape == (16, 8)
    assert isinstance(blocks["layer1"].f.conv1.space, nn.Conv2d)
    assert blocks["layer1"].f.conv1.time is None
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"solver": "dopri5"}, "solver is 'dopri5'; it must be one of euler, midpoint, heun, rk4"),
        ({"dsc": "some"}, "dsc is 'some'; it must be one of none, ode, all"),
        ({"steps": 0}, "steps is 0; give one number above 0, or 3 of them, one per ODE block"),
        ({"steps": (2, 2)}, r"steps is \(2, 2\); give one number above 0, or 3 of them, one per ODE block"),
        ({"steps": 1.5}, "steps is 1.5; steps are whole numbers"),
        ({"h": (1.0, -1.0, 1.0)}, r"h is \(1.0, -1.0, 1.0\); give one number above 0, or 3 of them"),
        ({"width": 0}, "width is 0; it must be at least 1"),
    ],
)
def test_bad_keywords_are_named(keywords, message):
    with pytest.raises(InputError, match=message):
        timm.create_model("dsodenet20", **keywords)


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_as_many_steps_as_before_change_nothing(solver):
    torch.manual_seed(0)
    net = timm.create_model("dsodenet20", in_chans=1, solver=solver)
    x = torch.randn(4, 1, 16, 16)
    net(x)  # statistics of their own for every step
    same = with_steps(net.eval(), (3, 2, 2))
    with torch.no_grad():
        assert torch.equal(same(x), net(x))


def test_other_steps_keep_the_span_the_weights_and_the_original():
    net = timm.create_model("dsodenet20", solver="midpoint")
    more = with_steps(net, 6)
    for name, block in ode_blocks(more).items():
        assert block.h * block.steps == pytest.approx(ode_blocks(net)[name].h * ode_blocks(net)[name].steps)
        assert block.f.norm2.running_var.shape[0] == 2 * 6
    assert [block.steps for block in ode_blocks(net).values()] == [3, 2, 2]
    for old, new in zip(net.parameters(), more.parameters(), strict=True):
        assert torch.equal(old, new)


def test_drawn_steps_are_those_of_a_net_with_so_many_and_leave_statistics_alone():
    torch.manual_seed(0)
    net = timm.create_model("dsodenet20", in_chans=1)
    x = torch.randn(8, 1, 16, 16)
    net(x)
    draw_steps(net, 3)
    drawn = [block.drawn for block in ode_blocks(net).values()]
    assert drawn != [3, 2, 2]  # else another seed
    kept = {name: value.clone() for name, value in net.named_buffers() if ".f." in name}
    fewer = with_steps(net, tuple(drawn)).train()
    assert torch.equal(net.train()(x), fewer(x))
    moved = {name for name, value in net.named_buffers() if name in kept and not torch.equal(value, kept[name])}
    whole = [name for name, block in ode_blocks(net).items() if block.drawn == block.steps]
    assert moved == {name for name in kept if name.split(".f.")[0] in whole}
    net.eval()
    assert torch.equal(net(x), with_steps(net, (3, 2, 2))(x))  # judged by all of its steps


def test_steps_are_drawn_by_the_seed_from_one_to_all():
    net = timm.create_model("dsodenet20")
    drawn = []
    for seed in range(40):
        draw_steps(net, seed)
        drawn.append(tuple(block.drawn for block in ode_blocks(net).values()))
    assert [set(each) for each in zip(*drawn, strict=True)] == [{1, 2, 3}, {1, 2}, {1, 2}]
    draw_steps(net, 7)
    assert drawn[7] == tuple(block.drawn for block in ode_blocks(net).values())


def test_nets_without_ode_blocks_have_no_steps():
    with pytest.raises(InputError, match="no ODE block"):
        with_steps(timm.create_model("resnet8"), 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_onnx_with_any_batch_is_the_net():
    need("onnxruntime", "onnxscript")
    import onnxruntime

    torch.manual_seed(0)
    net = timm.create_model("dsodenet20", in_chans=1, width=8)
    net(torch.randn(8, 1, 16, 16))  # statistics of their own for every step
    file = io.BytesIO()
    batch = {0: torch.export.Dim("batch")}
    exported = torch.onnx.export(
        net.eval(), (torch.randn(2, 1, 16, 16),), dynamo=True, dynamic_shapes=(batch,), verbose=False
    )
    exported.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        x = torch.randn(n, 1, 16, 16)
        (scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(scores), net(x), rtol=1e-5, atol=1e-5)
