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
from test_program import Maker
from tools import need

from limbeck.integer import qonnx
from limbeck.integer.program import STAGES, run, trace
from limbeck.integer.survey import survey

makers = st.builds(Maker, st.integers(0, 2**32), st.just(8), st.booleans(), st.sampled_from([None, 4]))


def maps_of(model, images):
    """Return every map that has a name of its own in trace, by onnxruntime; it knows Quant by the file's function."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    names = [output for node in model.graph.node for output in node.output if node.op_type in ("Quant", "MaxPool")]
    for name in names:
        named.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(named.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers = [session.run(["logits", *names], {"images": image[None].astype(np.float32)}) for image in images]
    return dict(zip(["logits", *names], (np.concatenate(parts) for parts in zip(*answers, strict=True)), strict=True))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(makers, st.integers(3, 5), st.sampled_from(sorted(STAGES)))
def test_every_map_is_the_programs_but_where_a_rounding_is_close(maker, side, solver):
    program = maker.program(side, solver)
    images = maker.images(3, program)
    found = maps_of(qonnx.graph(program), images)
    expected = dict(trace(program, images))
    assert set(expected) - set(found) == {"fc"}
    off = np.concatenate([(found[name] - expected[name]).ravel() for name in expected if name != "fc"])
    assert (off == 0).mean() > 0.99
    assert np.abs(found["input"] - expected["input"]).max() == 0
    assert np.abs(found["stem"] - expected["stem"]).max() <= 1
    scores = np.clip(found["logits"] / program.scale, -(2**23), 2**23 - 1)  # which QONNX leaves as they are
    assert np.abs(scores - run(program, images)).max() < 2**14


def test_narrowings_round_halves_up_as_the_program_does():
    ties = 0
    for seed in range(4):
        maker = Maker(seed, 8, False)
        program = maker.program(6, "euler")
        images = maker.images(16, program)
        found = maps_of(qonnx.graph(program), images)
        state, shift = found["pool"].astype(np.int64), program.layers[2].field[0].shift
        halves = (state + (1 << shift >> 1)) >> shift
        ties += (state % (1 << shift) == 1 << (shift - 1)).sum()
        np.testing.assert_array_equal(found[f"ode[0].{program.layers[2].field[0].name}"], np.clip(halves, -128, 127))
    assert ties > 0, "no tie: the test shows nothing"


def test_the_file_is_valid_and_says_what_a_stranger_must_know(tmp_path):
    program = Maker(1, 8, False, 4).program(4, "heun")
    qonnx.save(program, tmp_path / "x.onnx")
    model = onnx.load(tmp_path / "x.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(said["classes"]) == list(program.classes)
    assert json.loads(said["input"])["height"] == program.input.height


def test_weights_are_narrow_and_signed_and_have_their_bits_and_one_taker():
    program = Maker(1, 8, False, 4).program(4, "heun")
    graph = qonnx.graph(program).graph
    tables = {table.name: onnx.numpy_helper.to_array(table) for table in graph.initializer}
    takers = [name for node in graph.node for name in node.input]
    weights = [node for node in graph.node if node.op_type == "Quant" and node.input[0].endswith(".weight")]
    runs = sum(site.evaluations for site in survey(program) if hasattr(site.layer, "weight"))
    assert len(weights) == runs
    for node in weights:
        marks = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert marks == {"signed": 1, "narrow": 1, "rounding_mode": b"ROUND"}
        assert tables[node.input[3]] == 4
        assert np.abs(tables[node.input[0]]).max() <= 7
        assert takers.count(node.output[0]) == 1


def test_convolutions_say_all_about_themselves_and_sums_are_scaled_by_batch_norms():
    """hls4ml's and qonnx's channels-last conversion refuses a Conv without dilations, and moves no Mul by channels."""
    graph = qonnx.graph(Maker(1, 8, False).program(4, "euler")).graph
    said = {"group", "kernel_shape", "strides", "pads", "dilations"}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert [{a.name for a in node.attribute} for node in convs] == [said] * len(convs)
    sizes = {table.name: list(table.dims) for table in graph.initializer}
    for node in graph.node:
        if node.op_type == "Mul":
            assert sizes[node.input[1]] in ([], [4]), "by one number; the scores by one a class"


def test_what_a_relu_gives_is_quantised_without_a_sign():
    program = Maker(1, 8, False).program(4, "euler")
    graph = qonnx.graph(program).graph
    relus = {node.output[0] for node in graph.node if node.op_type == "Relu"}
    after = [node for node in graph.node if node.op_type == "Quant" and node.input[0] in relus]
    assert len(after) == len(relus) == 1
    marks = {a.name: helper.get_attribute_value(a) for a in after[0].attribute}
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

        maker = Maker(5, 8, False, 4)
        program = maker.program(5, solver)
        images = maker.images(1, program)
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
