"""Lowering: a trained net and its Program agree within a bound that follows from the formats alone."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import limbeck.nets.odenet  # noqa: F401 - registers the family
from limbeck.errors import InputError, VerificationError
from limbeck.images.sources import open_source
from limbeck.integer.extract import extract
from limbeck.integer.file import load
from limbeck.integer.graph import FloatNarrow, FloatNode, apply, convolve, evaluate, pixels
from limbeck.integer.lower import lower
from limbeck.integer.noise import noise
from limbeck.integer.program import (
    Add,
    AveragePool,
    Concat,
    Conv,
    GlobalAverage,
    MaxPool,
    Scale,
    Shortcut,
    Table,
    predict,
    run,
    trace,
)
from limbeck.integer.survey import survey
from limbeck.integer.tables import _weight_clips
from limbeck.integer.trace import LowerError
from limbeck.nets import zoo
from limbeck.nets.norm import StepBatchNorm, reestimate
from limbeck.verbs.quantize import quantize

CLASSES = ("a", "b", "c")


def images_for(net, count=6, seed=0):
    """Smooth random images: what nets are made for, and no two alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, net.input.channels, 4, 4, generator=generator)
    size = (net.input.size, net.input.size)
    return (F.interpolate(coarse, size, mode="bilinear") * 255).to(torch.uint8)


def settled(net, seed):
    """Return the net with random weights and signs of its norms, their statistics those of its own maps."""
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | StepBatchNorm)]
    for norm in norms:
        norm.weight.data.copy_(torch.rand(norm.weight.shape, generator=generator) * 2.5 - 1)
        norm.bias.data.normal_(0, 0.3, generator=generator)
    if norms:
        reestimate(net.net, [net.prepare(images_for(net, seed=seed))])
    for norm in norms:  # a channel that never changes here would be divided by almost nothing
        norm.running_var.clamp_(min=0.05 * float(norm.running_var.mean()))
    return net.eval()


def family(name, *, size=9, channels=1, seed=0, **arguments):
    torch.manual_seed(seed)
    mean, std = (0.2, 0.5, 0.7)[:channels], (0.3, 0.2, 0.4)[:channels]
    made = zoo.create(
        name, classes=CLASSES, channels=channels, size=size, mean=mean, std=std, arguments={"width": 4, **arguments}
    )
    return settled(made, seed)


def plain(*modules, size=8, channels=3, seed=0):
    """Return a Classifier of modules in a row."""
    torch.manual_seed(seed)
    eyes = zoo.Input(size, channels, (0.4, 0.5, 0.3)[:channels], (0.2, 0.3, 0.25)[:channels])
    net = nn.Sequential(*modules)
    made = zoo.Classifier(net, name="plain", arguments={}, classes=CLASSES, input=eyes, lineage=zoo.Lineage("plain"))
    return settled(made, seed)


def mobile(seed=0, act=nn.ReLU6):
    return plain(
        nn.Conv2d(3, 6, 3, 2, 1, bias=False),
        nn.BatchNorm2d(6),
        act(),
        nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False), nn.BatchNorm2d(6), act()),
        nn.Sequential(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)),
        nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(8, 5, 5, 1, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
        seed=seed,
    )


class Gated(nn.Module):
    """Squeeze-and-excite, with a table before its map and one behind its gate."""

    def __init__(self, channels, act=nn.Hardswish):
        super().__init__()
        self.act, self.gate = act(), nn.Hardsigmoid()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        x = self.act(x)
        return x * self.gate(self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu_()))


class Residual(nn.Module):
    """A sum of two branches, one with an average pool where the map shrinks, after a concatenation."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.left, self.right = nn.Conv2d(inputs, 3, 1), nn.Conv2d(inputs, 5, 3, 1, 1)
        self.conv = nn.Conv2d(8, outputs, 3, stride, 1, groups=2)
        self.norm = nn.BatchNorm2d(outputs)
        pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        self.short = nn.Sequential(pool if stride == 2 else nn.Identity(), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x):
        y = torch.cat([self.left(x).relu(), self.right(x)], 1)
        return self.norm(self.conv(y)) + self.short(x)


def mixed(size=9, seed=0, stride=2, act=nn.Hardswish):
    """Return a net of all operations."""
    return plain(
        nn.Conv2d(3, 6, 3, 2, 1),
        Gated(6, act),
        Residual(6, 8, stride),
        nn.ReLU(),
        Residual(8, 8, 1),
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(8, 8, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
        size=size,
        seed=seed,
    )


nets = st.one_of(
    st.builds(
        mixed,
        st.integers(6, 13),
        st.integers(0, 99),
        st.sampled_from([1, 2]),
        st.sampled_from([nn.Hardswish, nn.SiLU, nn.GELU]),
    ),
    st.builds(mobile, st.integers(0, 99), st.sampled_from([nn.ReLU, nn.ReLU6])),
    st.builds(family, st.just("resnet14"), size=st.integers(4, 9), seed=st.integers(0, 99)),
    st.builds(
        family,
        st.just("odenet20"),
        size=st.integers(4, 9),
        channels=st.sampled_from([1, 3]),
        seed=st.integers(0, 99),
        dsc=st.sampled_from(["none", "ode", "all"]),
        time=st.sampled_from(["concat", "none"]),
        solver=st.sampled_from(["euler", "heun", "midpoint", "rk4"]),
        steps=st.integers(1, 3),
        h=st.sampled_from([1.0, 0.3]),
    ),
    st.builds(family, st.just("dsodenet20"), size=st.just(17), seed=st.integers(0, 99), stem=st.just("7x7")),
)


# --- what is folded --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(nets)
def test_the_folded_layers_are_the_net(net):
    images = images_for(net)
    net = net.double()
    with torch.no_grad():
        folded = evaluate(extract(net), pixels(net, images).double() - 128, lambda _path, _map: None)
        expected = net.net(net.prepare(images).double())
    assert float((folded - expected).abs().max()) <= 1e-5 * max(1, float(expected.abs().max()))  # prepare is float32


def test_what_passes_through_an_identity_is_computed_once():
    net = plain(nn.Conv2d(3, 6, 8), Gated(6), nn.Flatten(), nn.Linear(6, 3))  # its mean is over a single pixel
    assert sum(isinstance(node.op, Table) for node in lower(net, images_for(net)).nodes) == 2


def test_classes_in_another_order_than_the_outputs_are_lowered_in_the_classes_order():
    net = family("resnet8")
    images = images_for(net)
    scores = run(lower(net, images), images.numpy())
    net.order = torch.tensor([2, 0, 1])
    np.testing.assert_array_equal(run(lower(net, images), images.numpy()), scores[:, [2, 0, 1]])


# --- the bound of numerics.md §9 -----------------------------------------------------------------------------------


SLOPE = 1.5  # no table of these nets is steeper


class Bounds:
    """Follows a net and its program map by map: how far scale times integers may be from the float net."""

    def __init__(self, net, program, images):
        self.floats = {}
        self.nodes = {node.name: node for node in extract(net)}
        evaluate(extract(net), images.double() - 128, self.floats.__setitem__)
        self.program, self.ints = program, {}
        self.ints = {name: torch.from_numpy(y).double() for name, y in trace(program, images.numpy())}

    def __iter__(self):
        """Yield (name, error, bound), maps [N, C, H, W]."""
        bounds = {"input": torch.zeros_like(self.ints["input"])}
        scales = {"input": torch.ones(1, 1, 1).double()}
        for node in self.program.nodes:
            name, x = node.name, [self.ints[each] for each in node.inputs]
            scales[name] = scale = torch.tensor(node.scale).double()[:, None, None]
            self.floats.setdefault(name, self.floats.get(node.inputs[0]))  # a narrowing
            source = self.nodes.get(name) or FloatNode(name, node.inputs, FloatNarrow(), x[0].shape[1:])
            before = [bounds[each] for each in node.inputs]
            bounds[name] = self.bound(node, source, x, before, [scales[each] for each in node.inputs], scale)
            yield name, (self.floats[name] - scale * self.ints[name]).abs(), bounds[name]

    def bound(self, node, source, x, before, in_scales, scale):  # noqa: PLR0911 - a case an operation
        match node.op:
            case Conv():
                return self.conv_bound(source.op, node.op, in_scales[0], scale, before[0], x[0])
            case Add(factors, shift):
                total = sum(abs(factor) * each for factor, each in zip(factors, before, strict=True))
                if len(factors) == 1 and shift:
                    exact = factors[0] * 2.0**-shift
                    off = (in_scales[0] / scale - exact).abs() * x[0].abs()
                    return before[0] + scale * (off + 0.5)
                return total
            case Table():
                return SLOPE * before[0] + scale / 2
            case Scale(requant):
                wanted = (x[1] * in_scales[1]).abs()
                spread = before[0] * (wanted + before[1]) + (x[0] * in_scales[0]).abs() * before[1]
                return spread + own(requant, scale, (x[0] * x[1]).abs())
            case AveragePool(requant=requant):
                sums = apply(source, [x[0].abs()]) * node.op.size**2 * (36 if node.op.inside else 1)
                return apply(source, [before[0]]) + own(requant, scale, sums)
            case GlobalAverage(requant):
                return before[0].mean((2, 3), keepdim=True) + own(requant, scale, x[0].abs().sum((2, 3), keepdim=True))
            case MaxPool() | Concat() | Shortcut():
                return apply(source, before)

    def conv_bound(self, conv, made, in_scale, scale, bound, x):
        """What came in wrong, times |w|; what rounding or clipping took from each weight, at least half a unit, and the
        offset gave back for a mean input; half a unit for offset and border; the multiplier; the result."""
        tensors, requant = self.program.tensors, made.requant
        spread = convolve(bound, conv.weight.abs(), conv) * conv.scale.abs()[:, None, None]
        mult, offset = (tensors[key][:, None, None].astype(float) for key in (requant.mult, requant.offset))
        ticks, border = 0, 0.0
        if made.border is not None:
            ticks = made.border.ticks
            border = ticks * np.abs(tensors[made.border.table]).max((1, 2))[:, None, None]
        weight = torch.from_numpy(np.abs(tensors[made.weight])).double()
        acc = convolve(x.abs(), weight, conv) + torch.from_numpy(np.abs(offset) + border)
        unit = scale * torch.from_numpy((mult + 0.5) * 2.0**-requant.shift)
        wrong = weight_errors(conv, made, tensors, in_scale, scale).maximum(unit[..., None] / 2)
        mean = (x.abs() + bound / in_scale).amax((0, 2, 3)).reshape(conv.groups, -1)
        mean = mean.repeat_interleave(len(conv.weight) // conv.groups, 0)
        given_back = (wrong.sum((2, 3)) * mean).sum(1)[:, None, None]
        off = convolve(x.abs(), wrong, conv) + given_back
        return spread + off + unit * (1 + ticks) / 2 + own(requant, scale, acc)


def own(requant, scale, acc):
    """What a requantisation adds: its multiplier's rounding, and the result's."""
    return scale * (acc * 2.0 ** -(requant.shift + 1) + 0.5)


def weight_errors(conv, made, tensors, in_scale, scale):
    """Return how far each weight is from the float net's, [out, in / groups, kernel, kernel], where x is integers."""
    share = len(conv.weight) // conv.groups
    comes_in = in_scale.expand(conv.weight.shape[1] * conv.groups, 1, 1)
    comes_in = comes_in.reshape(conv.groups, -1).repeat_interleave(share, 0)[..., None, None]
    weight = torch.from_numpy(tensors[made.weight]).double()
    unit = (
        scale[..., None] * torch.from_numpy(tensors[made.requant.mult] * 2.0**-made.requant.shift)[:, None, None, None]
    )
    return ((conv.weight * conv.scale[:, None, None, None]).abs() * comes_in - unit * weight.abs()).abs()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(nets, st.sampled_from([(8, 8, 16), (16, 8, 16), (8, 16, 24), (16, 16, 16), (16, 16, 24), (4, 8, 16)]))
@torch.no_grad()
def test_every_map_of_the_program_is_within_its_bound_of_the_float_net(net, bits):
    weight_bits, activation_bits, state_bits = bits
    net, images = net.double(), images_for(net)
    program = lower(
        net,
        images,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        state_bits=state_bits,
        ranges="minmax",  # on these very images: nothing that the float net has is clipped
    )
    for name, error, bound in Bounds(net, program, images):
        assert (error <= bound * (1 + 1e-6)).all(), f"{name}: {float((error / bound).max()):.4f} of the bound"


def signal_to_noise(net, program, images):
    with torch.no_grad():
        logits = net(images).numpy()
    wrong = run(program, images.numpy()) * program.scale - logits
    return 10 * np.log10(np.square(logits).mean() / np.square(wrong).mean())


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
def test_sixteen_bits_are_30_db_better_than_eight(ranges):
    net = family("dsodenet20")
    images = images_for(net, 16)
    narrow = signal_to_noise(net, lower(net, images, ranges=ranges), images)
    wide = signal_to_noise(
        net, lower(net, images, weight_bits=16, activation_bits=16, state_bits=24, ranges=ranges), images
    )
    assert wide > narrow + 30


@pytest.mark.parametrize("ranges", ["percentile", "mse"])
def test_the_channels_of_a_map_keep_one_share_of_their_largest_values(ranges):
    """Chosen from few values of its own, a channel's clip is below what it is seen to reach."""
    net = mobile(act=nn.ReLU)
    images, floats, found = images_for(net, 12), {}, 0
    with torch.no_grad():
        evaluate(extract(net), pixels(net, images).float() - 128, floats.__setitem__)
    for node in lower(net, images, ranges=ranges).nodes:
        if isinstance(node.op, Conv) and len(node.scale) > 1:
            largest = floats[node.name].abs().amax((0, 2, 3)).numpy()
            moving = largest > largest.max() / 64
            shares = 127 * np.array(node.scale)[moving] / largest[moving]
            np.testing.assert_allclose(shares, shares[0], rtol=1e-4)
            assert 0.1 < shares[0] < 1.0001
            found += 1
    assert found >= 2


# --- structure -------------------------------------------------------------------------------------------------------


def test_the_steps_of_an_ode_block_share_weights_and_have_a_table_each():
    net = family("dsodenet20", steps=3, solver="rk4")
    program = lower(net, images_for(net))
    found = [node.op for node in program.nodes if node.path == "layer1.f.conv1.space.pointwise"]
    assert len(found) == 12
    assert {op.weight for op in found} == {"layer1.f.conv1.space.pointwise.weight"}
    assert len({op.requant.mult for op in found}) == 12
    assert [op.border.ticks if op.border else 0 for op in found] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert {program.tensors[op.border.table].shape for op in found if op.border} == {(4, 3, 3)}
    depthwise = next(node.op for node in program.nodes if node.path == "layer1.f.conv1.space.depthwise")
    assert program.tensors[depthwise.weight].shape == (4, 1, 3, 3)
    assert depthwise.groups == 4


@pytest.mark.parametrize(
    ("solver", "factors"),
    [
        ("euler", [(1, 1), (1, 1)]),
        ("midpoint", [(1, 1), (1, 1), (1, 1), (1, 1)]),
        ("heun", [(1, 1), (1, 2), (1, 1), (1, 1), (1, 2), (1, 1)]),
    ],
)
def test_a_solvers_sums_have_whole_factors(solver, factors):
    net = family("odenet20", steps=2, solver=solver, h=0.3)
    program = lower(net, images_for(net))
    found = [
        n.op for n in program.nodes if isinstance(n.op, Add) and len(n.inputs) == 2 and n.name.startswith("layer1")
    ]
    assert sorted(op.factors for op in found) == sorted(factors)
    assert {op.shift for op in found} == {0}


def test_a_net_without_time_has_no_border_tables_in_its_blocks():
    net = family("dsodenet20", time="none")
    program = lower(net, images_for(net))
    assert [node.path for node in program.nodes if isinstance(node.op, Conv) and node.op.border] == ["stem.conv"]


def weight_bits_of(program):
    return {node.path: node.op.weight_bits for node in program.nodes if isinstance(node.op, Conv)}


def test_layers_named_wide_get_16_bits_and_no_others():
    net = family("odenet20")
    bits = weight_bits_of(lower(net, images_for(net), wide=("layer2_1", "head.fc")))
    assert {path for path, b in bits.items() if b == 16} == {"layer2_1.conv1", "layer2_1.conv2", "head.fc"}


def test_four_bits_are_for_all_but_the_ends_or_for_all_but_those_named():
    net = family("dsodenet20")
    images = images_for(net)

    def of_eight(**formats):
        bits = weight_bits_of(lower(net, images, weight_bits=4, **formats))
        assert set(bits.values()) <= {4, 8}
        return {path for path, b in bits.items() if b == 8}, set(bits)

    few, every = of_eight()
    assert few == {"stem.conv", "head.fc"}
    assert of_eight(eight=())[0] == set()
    assert of_eight(eight=("layer2_1",))[0] == {path for path in every if path.startswith("layer2_1.")}


@pytest.mark.parametrize("seed", range(3))
def test_clipping_few_level_weights_errs_less_than_keeping_their_largest(seed):
    magnitudes = torch.randn(5, 300, generator=torch.Generator().manual_seed(seed)).abs()
    clips = _weight_clips(magnitudes, 7)

    def error(units):
        codes = (magnitudes / units[:, None]).round().clamp(max=7)
        return (codes * units[:, None] - magnitudes).square().sum(1)

    assert (error(clips / 7) < error(magnitudes.amax(1) / 7)).all()
    assert torch.equal(_weight_clips(magnitudes, 127), magnitudes.amax(1))


def test_a_narrowing_named_wide_gives_16_bits():
    net = family("odenet20")
    program = lower(net, images_for(net), wide=("layer1.f.conv1.space.narrow", "head.global_pool.pool"))
    made = {node.path: node.op for node in program.nodes}
    assert made["layer1.f.conv1.space.narrow"].bits == 16
    assert made["layer1.f.conv1.space"].weight_bits == 8
    assert made["layer2_1.conv1.narrow"].bits == 8
    assert made["head.global_pool.pool"].requant.bits == 16


@pytest.mark.parametrize("activation_bits", [8, 16])
def test_tables_take_8_bits_whatever_the_format(activation_bits):
    net = mixed()
    program = lower(net, images_for(net), activation_bits=activation_bits)
    sites = [site for site in survey(program) if isinstance(site.node.op, Table)]
    assert [site.ins[0].bits for site in sites] == [8, 8]
    assert [site.out.bits for site in sites] == [activation_bits] * 2


def test_the_noise_report_shows_the_layer_that_was_made_wide():
    net = family("odenet20", size=12)
    images = images_for(net, 8)
    before = {n.path: n for n in noise(net, lower(net, images), images)}
    after = {n.path: n for n in noise(net, lower(net, images, wide=("layer2_1",)), images)}
    assert before["layer2_1.conv1"].formats == "w8 a8 -> 8"
    assert after["layer2_1.conv1"].formats == "w16 a16 -> 16"
    assert after["layer2_1.conv1"].own_snr > before["layer2_1.conv1"].own_snr + 30
    assert after["stem.conv"].formats == before["stem.conv"].formats == "w8 a8 -> 16"
    assert all(0 <= n.saturated <= 1 for n in before.values())


def test_lowering_is_the_same_every_time():
    net = mobile()
    images = images_for(net)
    scores = [run(lower(net, images), images.numpy()) for _ in range(2)]
    np.testing.assert_array_equal(*scores)


def test_a_channel_whose_norm_has_no_gain_keeps_its_shift():
    net = plain(
        nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    )
    net.net[1].weight.data[:] = torch.tensor([0.0, 1.0])
    images = images_for(net)
    assert signal_to_noise(net, lower(net, images), images) > 20
    weight = lower(net, images).tensors["0.weight"]
    assert (weight[0] == 0).all()
    assert (weight[1] != 0).any()


# --- the verb --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path):
    made = zoo.create("resnet8", classes=tuple("0123456789"), channels=1, size=28, arguments={"width": 4})
    zoo.save(settled(made, 0), tmp_path / "run")
    return tmp_path / "run"


def test_quantize_writes_a_program_that_answers_as_it_says(run_folder, tmp_path):
    done = quantize(str(run_folder), data="digits:mnist", out=str(tmp_path / "x.program"), calibration=64)
    held_out = open_source("digits:mnist", "val")
    said = predict(load(tmp_path / "x.program"), held_out.pixels.numpy())
    assert done.top1 == float((torch.from_numpy(said) == held_out.labels).double().mean())
    assert done.images == len(held_out)
    assert done.agreement > 0.8
    assert json.loads(json.dumps(done.to_json(), allow_nan=False))["drop"] == done.drop


def test_a_drop_above_the_limit_leaves_no_file(run_folder, tmp_path):
    out = tmp_path / "x.program"
    with pytest.raises(VerificationError, match="points below the float net's; --max-drop is -100, so nothing"):
        quantize(str(run_folder), data="digits:mnist", out=str(out), calibration=8, max_drop=-100.0)
    assert not out.exists()


# --- refusals --------------------------------------------------------------------------------------------------------


class Does(nn.Module):
    """What a function does."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


FORGETFUL = iter(range(10**6))
CONV = nn.Conv2d(3, 3, 3)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (
            (CONV, nn.Sequential(nn.LayerNorm([6, 6]))),
            "^1.0 computes native_layer_norm, which has no integer form;",
        ),
        ((CONV, nn.Softmax(1)), "^1 computes _softmax, which has no integer form"),
        ((nn.Conv2d(3, 4, 3), nn.Sequential(nn.PixelShuffle(2))), "^1.0 computes"),
        ((nn.Conv2d(3, 3, 3, dilation=2),), "^0 computes convolution.*one stride and no dilation"),
        ((nn.Conv2d(3, 3, 3, stride=(1, 2)),), "^0 computes convolution.*one stride and no dilation"),
        ((nn.ConvTranspose2d(3, 3, 3),), "^0 computes convolution.*one stride and no dilation"),
        ((nn.Conv2d(3, 3, 3, 1, 1, padding_mode="reflect"),), "^0 computes reflection_pad2d"),
        ((CONV, nn.AdaptiveAvgPool2d(4)), "^1 computes _adaptive_avg_pool2d"),
        ((CONV, nn.BatchNorm2d(3, track_running_stats=False)), "^1 computes native_batch_norm.*without running"),
        ((CONV, Does(lambda x: x * x.flip(3))), "^1 computes flip"),
        ((CONV, Does(lambda x: x[:, :2])), "^1 computes slice.*a part of a map"),
        ((CONV, Does(lambda x: x if x.mean() > 0 else -x)), "^1 can't be traced"),
        ((CONV,), r"^the net ends with a map \(3, 6, 6\)"),
        ((nn.Conv2d(3, 3, 8), nn.Flatten(), Does(lambda x: x + next(FORGETFUL))), "^the folded layers differ from the"),
    ],
)
def test_a_net_that_cannot_be_lowered_is_refused_by_operation_and_module(modules, message):
    net = plain()
    net.net = nn.Sequential(*modules)
    with pytest.raises(LowerError, match=message):
        lower(net.eval(), images_for(net))


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        ({"weight_bits": 5}, "weight bits is 5; it must be one of 4, 8, 16"),
        ({"weight_bits": 4, "eight": ("layer9",)}, "there is no layer layer9 to keep at 8 bits; there are stem.conv"),
        ({"activation_bits": 16, "state_bits": 8}, "raise the state bits"),
        ({"wide": ("layer9",)}, "there is no layer layer9 to make wide; there are stem.conv"),
    ],
)
def test_formats_that_cannot_be_are_refused(formats, message):
    net = family("resnet8")
    with pytest.raises(InputError, match=message):
        lower(net, images_for(net), **formats)


def test_lowering_without_images_is_refused():
    net = family("resnet8")
    with pytest.raises(InputError, match="no images to calibrate with"):
        lower(net, images_for(net)[:0])
