"""Our rounding beside that of others: torch's and brevitas' fake quantisation, onnxruntime's QuantizeLinear.

They round halves to even, we round them up; nothing else may differ.
"""

import warnings

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from test_lower import CLASSES, family, images_for
from tools import need
from torch import nn

from limbeck.artefacts.models import load_model
from limbeck.integer.extract import extract
from limbeck.integer.graph import FloatConv
from limbeck.integer.lower import lower
from limbeck.integer.program import run, trace
from limbeck.integer.qat import whole
from limbeck.integer.tables import tables
from limbeck.nets import onnx as files
from limbeck.nets import zoo

seeds = st.integers(0, 2**32 - 1)
weight_bits = st.sampled_from([4, 8, 16])


def conv_of(seed, groups=1):
    """Return a convolution in float64 whose channels differ in range."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(6, 6 // groups, 3, 3, generator=generator, dtype=torch.float64)
    weight *= torch.logspace(-2, 1, 6, dtype=torch.float64)[:, None, None, None]
    ones = torch.ones(6, dtype=torch.float64)
    return FloatConv(weight, groups, 1, (1, 1, 1, 1), ones, 0 * ones)


def units_of(made, out_scale):
    """Return what one unit of each channel's weights stands for."""
    return out_scale * made.mult[0] * 2.0**-made.shift


def away_from_halves(x):
    """Return where float32, in which the others compute, can tell which way to round."""
    return (x - x.floor() - 0.5).abs() > 1e-4 + 1e-6 * x.abs()


@settings(max_examples=30, deadline=None)
@given(seeds, weight_bits, st.sampled_from([1, 6]))
def test_weights_are_those_of_torchs_fake_quantisation_at_the_same_scales(seed, bits, groups):
    conv = conv_of(seed, groups)
    made = tables([conv], (1.0,), (0.05,), bits, whole)
    units, high = units_of(made, 0.05), 2 ** (bits - 1) - 1
    theirs = torch.fake_quantize_per_channel_affine(
        conv.weight.float(), units.float(), torch.zeros(6, dtype=torch.int32), 0, -high, high
    )
    clear = away_from_halves(conv.weight / units[:, None, None, None])
    codes = (theirs.double() / units[:, None, None, None]).round()
    assert torch.equal(codes[clear], made.weight[clear])
    assert clear.double().mean() > 0.9


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30), st.sampled_from([0.25, 0.37, 3.0]))
def test_activations_are_those_of_torchs_fake_quantisation_but_for_halves(values, scale):
    x = torch.tensor(values)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, 0, -128, 127) / scale
    ours = whole((x / scale).clamp(-128, 127))
    same = theirs.round() == ours
    assert same[away_from_halves(x.double() / scale)].all()
    assert (theirs.round() - ours).abs().max() <= 1


@pytest.mark.parametrize("scale", [0.25, 0.37])
def test_activations_are_those_of_onnxruntimes_quantize_linear_but_for_halves(scale):
    x = np.linspace(-60, 60, 4001, dtype=np.float32)
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [None])],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("zero", TensorProto.INT8, [], [0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(session.run(None, {"x": x})[0]).double()
    units = torch.from_numpy(x).double() / np.float32(scale)
    ours = whole(units.clamp(-128, 127))
    clear = away_from_halves(units)
    assert torch.equal(theirs[clear], ours[clear])
    up = theirs[~clear] != ours[~clear]
    assert (ours[~clear][up] == theirs[~clear][up] + 1).all()  # a half that went to even below, and with us up


@pytest.mark.apart
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_those_of_brevitas_at_the_same_scales(bits):
    need("brevitas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brevitas.core.bit_width import BitWidthConst
        from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
        from brevitas.core.quant import IntQuant

        conv = conv_of(bits)
        made = tables([conv], (1.0,), (0.05,), bits, whole)
        units = units_of(made, 0.05)[:, None, None, None]
        quant = IntQuant(
            narrow_range=True, signed=True, input_view_impl=Identity(), float_to_int_impl=RoundSte(),
            tensor_clamp_impl=TensorClamp(),
        )  # fmt: skip
        theirs = quant(units, torch.tensor(0.0), BitWidthConst(bits)(), conv.weight)
    clear = away_from_halves(conv.weight / units)
    assert torch.equal((theirs / units).round()[clear], made.weight[clear])


def test_a_layer_of_a_program_is_the_fake_quantised_layer_of_torch():
    """Weights and result of a convolution fake-quantised by torch, a scale a channel: the Program's map, but for
    roundings that are close."""
    torch.manual_seed(0)
    eyes = zoo.Input(8, 3, (128 / 255,) * 3, (0.2, 0.3, 0.25))  # so that pixels - 128 are a multiple of what it sees
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    made = zoo.Classifier(net, name="plain", arguments={}, classes=CLASSES, input=eyes, lineage=zoo.Lineage("plain"))
    images = images_for(made, 64)
    program = lower(made.eval(), images)
    first, tensors = program.nodes[0], program.tensors
    assert first.op.border is None or not tensors[first.op.border.table].any()
    scale = torch.tensor(first.scale, dtype=torch.float64)[:, None, None]
    unit = scale[:, 0, 0] * torch.from_numpy(tensors[first.op.requant.mult] * 2.0**-first.op.requant.shift)
    float_layer = extract(made)[0].op
    weight = torch.fake_quantize_per_channel_affine(
        float_layer.weight.detach(), unit.float(), torch.zeros(5, dtype=torch.int32), 0, -127, 127
    )
    x = images.double() - 128
    rounding = (float_layer.weight.detach() - weight).double().sum((2, 3)) / unit[:, None]
    given_back = (rounding * x.mean((0, 2, 3))).sum(1)  # what it adds where every channel has its mean
    offset = float_layer.shift.detach() / unit + given_back
    shift = torch.fake_quantize_per_tensor_affine(offset.float(), 1.0, 0, -(2**20), 2**20)
    y = (torch.nn.functional.conv2d(x, weight.double(), padding=1) + (shift * unit)[:, None, None]) / scale
    theirs = torch.fake_quantize_per_tensor_affine(y.float(), 1.0, 0, -128, 127).double()
    ours = torch.from_numpy(dict(trace(program, images.numpy()))[first.name]).double()
    assert (theirs - ours).abs().max() <= 1
    clear = away_from_halves(y)
    assert torch.equal(theirs[clear], ours[clear])
    assert clear.double().mean() > 0.99


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A net, its 8-bit ONNX file, and images."""
    net = family("resnet8", size=12)
    net.net.get_classifier().weight.data.mul_(20)
    images = images_for(net, 64)
    folder = tmp_path_factory.mktemp("eight")
    files.export(net, folder / "x.onnx")
    files.quantise(folder / "x.onnx", folder / "x8.onnx", images)
    return net, folder / "x8.onnx", images


@pytest.mark.slow
def test_convolutions_and_relus_of_the_8_bit_onnx_file_are_one_operation_on_integers(eight, tmp_path):
    """After a ReLU there are no negatives: all 8 bits are used, and onnxruntime's rounding is the ReLU."""
    _, path, _ = eight
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "x.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node]
    assert kinds.count("QLinearConv") == 7
    assert not {"Conv", "FusedConv"} & {*kinds}
    assert kinds.count("Relu") <= 3  # behind sums
    graph = onnx.load(path).graph
    tables_of = {table.name: onnx.numpy_helper.to_array(table) for table in graph.initializer}
    takers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type == "Relu" and takers[node.output[0]].op_type == "QuantizeLinear":
            zero = tables_of[takers[node.output[0]].input[2]]
            assert (zero.dtype, int(zero)) == (np.uint8, 0)


@pytest.mark.slow
def test_constant_maps_are_stored_by_the_lines_that_differ(tmp_path):
    net = family("odenet20", size=17, width=16)
    images = images_for(net, 32)
    files.export(net, tmp_path / "x.onnx")
    files.quantise(tmp_path / "x.onnx", tmp_path / "x8.onnx", images)
    for path in (tmp_path / "x.onnx", tmp_path / "x8.onnx"):
        floats = [table for table in onnx.load(path).graph.initializer if table.data_type == onnx.TensorProto.FLOAT]
        assert all(max(table.dims[2:]) <= 7 for table in floats if len(table.dims) == 4)
        assert sum(table.name.endswith(".small") for table in floats) >= 4
    with torch.no_grad():
        np.testing.assert_allclose(load_model(str(tmp_path / "x.onnx"))(images), net(images), atol=1e-4)


@pytest.mark.slow
def test_the_8_bit_onnx_file_means_the_same_to_the_standards_own_evaluator(eight):
    _, path, images = eight
    with torch.no_grad():
        found = load_model(str(path))(images[:16]).numpy()
    model = onnx.load(path)
    model.opset_import[0].version = 19  # the first that the evaluator has; QuantizeLinear got types for it, no more
    expected = onnx.reference.ReferenceEvaluator(model).run(["logits"], {"images": images[:16].numpy()})[0]
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()  # a rounding here and there


def test_weights_of_the_8_bit_onnx_file_are_torchs_fake_quantised_weights(eight):
    net, path, _ = eight
    graph = onnx.load(path).graph
    tables_of = {table.name: onnx.numpy_helper.to_array(table) for table in graph.initializer}
    codes = [
        (tables_of[node.input[0]], tables_of[node.input[1]])
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in tables_of
        and tables_of[node.input[0]].dtype == np.int8
    ]
    assert all(np.abs(table).max() <= 64 for table, _ in codes if table.ndim > 1)  # see `files.quantise`
    floats = [node.op for node in extract(net) if isinstance(node.op, FloatConv)]
    stem = next((table, scale) for table, scale in codes if table.shape == tuple(floats[1].weight.shape))
    folded = floats[1].weight * floats[1].scale[:, None, None, None]
    scale = torch.from_numpy(np.array(stem[1]))
    theirs = torch.fake_quantize_per_channel_affine(
        folded.detach(), scale, torch.zeros(len(scale), dtype=torch.int32), 0, -127, 127
    )
    off = (theirs / scale[:, None, None, None]).round() - torch.from_numpy(np.array(stem[0]))
    assert off.abs().max() <= 1
    assert (off == 0).double().mean() > 0.99


def test_two_quantisers_that_share_nothing_agree_with_the_float_net_and_each_other(eight):
    net, path, images = eight
    with torch.no_grad():
        whole_net, theirs = net(images).numpy(), load_model(str(path))(images).numpy()
    program = lower(net, images)
    ours = run(program, images.numpy()) * program.scale
    largest = np.abs(whole_net).max()
    for one, other in ((ours, whole_net), (theirs, whole_net), (ours, theirs)):
        assert np.abs(one - other).max() < 0.15 * largest
