"""Lowering: a trained net and its Program agree within a bound that follows from the formats alone."""

import json
import re

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
from limbeck.integer.file import load
from limbeck.integer.graph import LowerError, apply, evaluate, extract, pixels, walk
from limbeck.integer.lower import lower
from limbeck.integer.noise import noise
from limbeck.integer.program import (
    STAGES,
    Depthwise,
    GlobalAverage,
    MaxPool,
    Narrow,
    Ode,
    Residual,
    predict,
    run,
    trace,
)
from limbeck.integer.scales import _weight_clips
from limbeck.integer.survey import survey
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


nets = st.one_of(
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
        solver=st.sampled_from(sorted(STAGES)),
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


def test_classes_in_another_order_than_the_outputs_are_lowered_in_the_classes_order():
    net = family("resnet8")
    images = images_for(net)
    scores = run(lower(net, images), images.numpy())
    net.order = torch.tensor([2, 0, 1])
    np.testing.assert_array_equal(run(lower(net, images), images.numpy()), scores[:, [2, 0, 1]])


# --- the bound of numerics.md §9 -----------------------------------------------------------------------------------


class Bounds:
    """Follows a net and its program map by map: how far scale times integers may be from the float net."""

    def __init__(self, net, program, images):
        self.layers = dict(walk(extract(net)))
        self.made = {site.path: site.layer for site in survey(program)}
        self.floats = {}
        evaluate(extract(net), images.double() - 128, self.floats.__setitem__)
        self.ints = ((name, torch.from_numpy(y).double()) for name, y in trace(program, images.numpy()))
        self.blocks = {}  # by path: the bounds of the step's state and of the sum so far

    def __iter__(self):
        """Yield (name, error, bound), maps [N, C, H, W]."""
        _, x = next(self.ints)
        bound, scale = torch.zeros_like(x), torch.ones(1).double()
        for name, y in self.ints:
            path = re.sub(r"\[\d+\]", "", name)
            evaluation = int((re.findall(r"\[(\d+)\]", name) or [0])[0])
            layer, float_layer = self.made[path], self.layers[path]
            match layer:
                case Narrow():
                    self.blocks.setdefault(path.rpartition(".")[0], (bound, bound))
                    scale = scale * 2.0**layer.shift
                    bound = bound + scale / 2
                case Residual() | Ode():
                    scale = torch.tensor(layer.field[-1].requant.scale).double()[:, None, None]
                    bound = self.after_block(layer, path, bound, evaluation)
                case MaxPool():
                    bound = apply(path, float_layer, bound, 0)
                case GlobalAverage():
                    scale = torch.tensor(layer.requant.scale).double()[:, None, None]
                    bound = mean_bound(layer.requant, scale, bound, x)
                case _:
                    before, scale = scale, torch.tensor(layer.requant.scale).double()[:, None, None]
                    bound = conv_bound(float_layer, layer, before, scale, bound, x, evaluation)
            yield name, (self.floats[name] - scale * y).abs(), bound
            x = y

    def after_block(self, layer, path, k, evaluation):
        state, end = self.blocks[path]
        if isinstance(layer, Residual):
            short = state[:, :, :: layer.stride, :: layer.stride]
            return F.pad(short, (0, 0, 0, 0, 0, layer.channels - short.shape[1])) + k
        stages = STAGES[layer.solver]
        a, b = stages[evaluation % len(stages)]
        start, end = state + a * k, end + b * k
        last = evaluation % len(stages) == len(stages) - 1
        self.blocks[path] = (end, end) if last else (state, end)
        return end if last else start


def mean_bound(requant, scale, bound, x):
    total = x.abs().sum((2, 3), keepdim=True)
    return bound.mean((2, 3), keepdim=True) + scale * (total * 2.0 ** -(requant.shift + 1) + 0.5)


def conv_bound(layer, made, in_scale, scale, bound, x, evaluation):
    """What came in wrong, times |w|; what rounding or clipping took from each weight, at least half a unit; half a
    unit for offset and border; the multiplier; the result."""
    requant = made.requant
    same = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
    spread = F.conv2d(bound, layer.weight.abs(), **same)
    spread = spread * layer.scale[evaluation % len(layer.scale)].abs()[:, None, None]
    mult, offset = (t[evaluation % len(t)][:, None, None].astype(float) for t in (requant.mult, requant.offset))
    ticks, border = 0, 0.0
    if requant.border is not None:
        ticks = requant.border.ticks[evaluation % len(requant.border.ticks)]
        border = ticks * np.abs(requant.border.table).max((1, 2))[:, None, None]
    weight = torch.from_numpy(np.abs(made.weight)).double().reshape(layer.weight.shape)
    acc = F.conv2d(x.abs(), weight, **same) + torch.from_numpy(np.abs(offset) + border)
    unit = scale * torch.from_numpy((mult + 0.5) * 2.0**-requant.shift)
    off = F.conv2d(
        x.abs(), weight_errors(layer, made, weight, in_scale, scale, evaluation).maximum(unit[..., None] / 2), **same
    )
    return spread + off + unit * (1 + ticks) / 2 + scale * (acc * 2.0 ** -(requant.shift + 1) + 0.5)


def weight_errors(layer, made, weight, in_scale, scale, evaluation):
    """Return how far each weight is from the float net's, [out, in / groups, kernel, kernel], where x is integers."""
    gains = layer.scale.abs()
    gain = gains.amax(0)[:, None, None, None]
    comes_in = in_scale if layer.groups == 1 else in_scale[:, None]
    unit = scale[..., None] * torch.from_numpy(made.requant.mult.max(0) * 2.0**-made.requant.shift)[:, None, None, None]
    share = torch.where(gain > 0, gains[evaluation % len(gains)][:, None, None, None] / gain, 0)
    return (layer.weight.abs() * gain * comes_in - unit * weight).abs() * share


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


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
def test_sixteen_bits_are_30_db_better_than_eight(ranges):
    net = family("dsodenet20")
    images = images_for(net, 16)
    narrow = signal_to_noise(net, lower(net, images, ranges=ranges), images)
    wide = signal_to_noise(
        net, lower(net, images, weight_bits=16, activation_bits=16, state_bits=24, ranges=ranges), images
    )
    assert wide > narrow + 30


# --- structure -------------------------------------------------------------------------------------------------------


def test_the_steps_of_an_ode_block_share_weights_and_have_a_table_each():
    net = family("dsodenet20", steps=3, solver="rk4")
    block = next(layer for layer in lower(net, images_for(net)).layers if isinstance(layer, Ode))
    _, depthwise, pointwise, *_ = block.field
    assert isinstance(depthwise, Depthwise)
    assert depthwise.weight.shape == (4, 3, 3)
    assert pointwise.requant.mult.shape == (12, 4)
    assert pointwise.requant.border.ticks == (0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6)
    assert pointwise.requant.border.table.shape == (4, 3, 3)


def test_a_net_without_time_has_no_border_tables_in_its_blocks():
    net = family("dsodenet20", time="none")
    program = lower(net, images_for(net))
    found = [site.path for site in survey(program) if getattr(getattr(site.layer, "requant", None), "border", None)]
    assert found == ["stem.conv"]


def test_layers_named_wide_get_16_bits_and_no_others():
    net = family("odenet20")
    program = lower(net, images_for(net), wide=("layer2_1", "head.fc"))
    bits = {site.path: getattr(site.layer, "weight_bits", 8) for site in survey(program)}
    assert {path for path, b in bits.items() if b == 16} == {"layer2_1.conv1", "layer2_1.conv2", "head.fc"}


def test_four_bits_are_for_all_but_the_ends_or_for_all_but_those_named():
    net = family("dsodenet20")
    images = images_for(net)

    def of_eight(**formats):
        sites = survey(lower(net, images, weight_bits=4, **formats))
        bits = {site.path: site.layer.weight_bits for site in sites if hasattr(site.layer, "weight_bits")}
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
    program = lower(net, images_for(net), wide=("layer1.narrow", "head.global_pool.pool"))
    made = {site.path: site for site in survey(program)}
    assert made["layer1.narrow"].layer.bits == 16
    assert made["layer1.conv1"].layer.weight_bits == 8
    assert made["layer2_1.narrow"].layer.bits == 8
    assert made["head.global_pool.pool"].layer.requant.bits == 16


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
    dead = lower(net, images).layers[0]
    assert (dead.weight[0] == 0).all()
    assert (dead.weight[1] != 0).any()


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


class Secret(nn.Sequential):
    """Does what its children don't show."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ((nn.Conv2d(3, 3, 3), nn.GELU()), "^1 is a GELU, which has no integer layer"),
        ((nn.Conv2d(3, 4, 3, groups=1), nn.Sequential(nn.PixelShuffle(2))), "^1.0 is a PixelShuffle"),
        ((nn.ReLU(), nn.Conv2d(3, 3, 3)), "^0 doesn't follow a convolution"),
        ((nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)), "^0 doesn't follow a convolution"),
        ((nn.Conv2d(3, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)), "^2 doesn't follow a convolution"),
        ((nn.Conv2d(3, 3, 3, dilation=2),), "^0: a convolution must be square"),
        ((nn.Conv2d(3, 3, (3, 1)),), "^0: a convolution must be square"),
        ((nn.Conv2d(3, 6, 3, groups=3),), "^0: a convolution must be square"),
        ((nn.Conv2d(3, 3, 3, padding="same"),), "^0: a convolution must be square"),
        ((nn.Conv2d(3, 3, 3, padding_mode="reflect"),), "^0: a convolution must be square"),
        ((nn.Conv2d(3, 3, 3), nn.MaxPool2d(2, ceil_mode=True)), "^1: max-pooling must be square"),
        ((nn.Conv2d(3, 3, 3), nn.Flatten()), r"^1: flattening of a map \(3, 6, 6\)"),
        ((nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(2)), "^1 is a AdaptiveAvgPool2d"),
        ((nn.Conv2d(3, 3, 3),), r"^the net ends with a map \(3, 6, 6\)"),
        ((nn.MaxPool2d(2),), "^the net doesn't begin with a convolution"),
        ((Secret(nn.Conv2d(3, 3, 8)), nn.Flatten()), "^the folded layers differ from the net by"),
    ],
)
def test_a_net_that_cannot_be_lowered_is_refused_by_module(modules, message):
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
