"""QONNX of a Program: its integers but where float32 can't tell which way to round; other tools read the same."""

import json
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from test_lower import family, images_for, mixed
from tools import need

from limbeck.integer import qonnx
from limbeck.integer.lower import lower
from limbeck.integer.program import Add, Conv, run, trace

nets = st.one_of(
    st.builds(mixed, st.integers(6, 12), st.integers(0, 99), st.sampled_from([1, 2])),
    st.builds(
        family,
        st.just("dsodenet20"),
        size=st.integers(5, 9),
        seed=st.integers(0, 99),
        solver=st.sampled_from(["euler", "heun", "rk4"]),
    ),
)

pytestmark = pytest.mark.slow


def made(net, **formats):
    """Return (program, images) of a net."""
    images = images_for(net, 8)
    return lower(net, images, **formats), images.numpy()[:3]


def maps_of(model, images):
    """Return every map that has a name of its own in trace, by onnxruntime; it knows Quant by the file's function."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    floats = [node for node in model.graph.node if node.op_type != "Cast"]  # a table's places are int64
    names = [output for node in floats for output in node.output if output != "logits"]
    for name in names:
        named.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(named.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers = [session.run(["logits", *names], {"images": image[None].astype(np.float32)}) for image in images]
    return dict(zip(["logits", *names], (np.concatenate(parts) for parts in zip(*answers, strict=True)), strict=True))


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(nets, st.sampled_from([4, 8]))
def test_every_map_is_the_programs_but_where_a_rounding_is_close(net, weight_bits):
    program, images = made(net, weight_bits=weight_bits)
    found = maps_of(qonnx.graph(program), images)
    expected = dict(trace(program, images))
    last = program.nodes[-1].name
    assert set(expected) - set(found) == {last}
    off = np.concatenate([(found[name] - expected[name]).ravel() for name in expected if name != last])
    assert (off == 0).mean() > 0.9  # what a rounding moves by one moves others behind it
    assert np.abs(found["input"] - expected["input"]).max() == 0
    assert np.abs(found[program.nodes[0].name] - expected[program.nodes[0].name]).max() <= 1
    scores = np.clip(found["logits"] / program.scale, -(2**15), 2**15 - 1)  # which QONNX leaves as they are
    assert np.abs(scores - run(program, images)).max() < 2**13


def test_narrowings_round_halves_up_as_the_program_does():
    ties = 0
    for seed in range(4):
        program, images = made(family("odenet20", seed=seed))
        found = maps_of(qonnx.graph(program), images)
        for node in program.nodes:
            if isinstance(node.op, Add) and node.op.shift:
                state, shift = found[node.inputs[0]].astype(np.int64), node.op.shift
                ties += (state % (1 << shift) == 1 << (shift - 1)).sum()
                halves = np.clip((state + (1 << shift >> 1)) >> shift, -128, 127)
                np.testing.assert_array_equal(found[node.name], halves)
    assert ties > 0, "no tie: the test shows nothing"


def test_the_file_is_valid_and_says_what_a_stranger_must_know(tmp_path):
    program, _ = made(mixed())
    qonnx.save(program, tmp_path / "x.onnx")
    model = onnx.load(tmp_path / "x.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(said["classes"]) == list(program.classes)
    assert json.loads(said["input"])["height"] == program.input.height


def test_weights_are_narrow_and_signed_and_have_their_bits_and_one_taker():
    program, _ = made(family("odenet20", solver="heun"), weight_bits=4, eight=())
    graph = qonnx.graph(program).graph
    tables = {table.name: onnx.numpy_helper.to_array(table) for table in graph.initializer}
    takers = [name for node in graph.node for name in node.input]
    weights = [node for node in graph.node if node.op_type == "Quant" and node.input[0].endswith(".weight")]
    assert len(weights) == sum(isinstance(node.op, Conv) for node in program.nodes)
    for node in weights:
        marks = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert marks == {"signed": 1, "narrow": 1, "rounding_mode": b"ROUND"}
        assert tables[node.input[3]] == 4
        assert np.abs(tables[node.input[0]]).max() <= 7
        assert takers.count(node.output[0]) == 1


def test_convolutions_say_all_about_themselves_and_sums_are_scaled_by_batch_norms():
    """hls4ml's and qonnx's channels-last conversion refuses a Conv without dilations, and moves no Mul by channels."""
    graph = qonnx.graph(made(family("odenet20"))[0]).graph
    said = {"group", "kernel_shape", "strides", "pads", "dilations"}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert [{a.name for a in node.attribute} for node in convs] == [said] * len(convs)
    sizes = {table.name: list(table.dims) for table in graph.initializer}
    for node in graph.node:
        if node.op_type == "Mul":
            assert sizes[node.input[1]] in ([], [3]), "by one number; the scores by one a class"


def test_what_a_relu_gives_is_quantised_without_a_sign():
    graph = qonnx.graph(made(family("resnet8"))[0]).graph
    relus = {node.output[0] for node in graph.node if node.op_type == "Relu"}
    after = [node for node in graph.node if node.op_type == "Quant" and node.input[0] in relus]
    assert len(after) == len(relus) == 7
    for node in after:
        marks = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert (marks["signed"], marks["narrow"]) == (0, 0)


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_the_qonnx_package_cleans_executes_and_turns_it_to_the_same_logits(solver):
    need("qonnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
        from qonnx.util.cleanup import cleanup_model

        program, images = made(family("odenet20", solver=solver, seed=5), weight_bits=4)
        images = images[:1]
        model = qonnx.graph(program)
        expected = maps_of(model, images)["logits"]

        def answer(read):
            (name,) = (tensor.name for tensor in read.graph.input)
            assert read.get_tensor_datatype(name).name == "UINT8"
            (found,) = execute_onnx(read, {name: images.astype(np.float32)}).values()
            return found

        read = cleanup_model(ModelWrapper(model))
        np.testing.assert_array_equal(answer(read), expected)
        if solver == "euler":  # Heun's graph comes out of it with shapes that don't fit
            turned = read.transform(ConvertToChannelsLastAndClean(make_input_channels_last=False))
            np.testing.assert_allclose(answer(turned), expected, atol=1e-5 * np.abs(expected).max())  # another order
