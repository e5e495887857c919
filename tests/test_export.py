"""Export: an ONNX file answers as the net does, says all that a stranger must know, and has a name only then."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx as onnx_package
import onnxruntime
import pytest
import torch

import limbeck
from limbeck.artefacts.models import load_model
from limbeck.deploy.export import TOLERANCE
from limbeck.errors import InputError, VerificationError
from limbeck.images.labels import LabelStore, recover
from limbeck.integer import qonnx
from limbeck.nets import onnx, zoo
from limbeck.nets.norm import reestimate
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.export import export
from limbeck.verbs.quantize import quantize

pytestmark = pytest.mark.slow

DIGITS = "digits:optdigits"
TEN = tuple("0123456789")


def made(name, *, classes=TEN, channels=1, size=16, seed=0, **arguments):
    """Return an untrained net that is not undecided; its norms have seen noise."""
    torch.manual_seed(seed)
    mean, std = (0.2, 0.5, 0.7)[:channels], (0.3, 0.2, 0.4)[:channels]
    net = zoo.create(name, classes=classes, channels=channels, size=size, mean=mean, std=std, arguments=arguments)
    with torch.no_grad():
        net.net.get_classifier().weight.mul_(20)
    reestimate(net.net, [net.prepare(images_for(net, 16))])
    return net.eval()


def images_for(net, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, net.input.channels, net.input.size, net.input.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def metadata(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    return {key: json.loads(value) for key, value in found.items() if not value.startswith("limbeck-sha256")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    zoo.save(made("resnet8", size=14, width=4), folder)
    return str(folder)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("files") / "x.onnx"
    return export(run, out=str(out))


@pytest.mark.parametrize(
    ("name", "channels", "size", "arguments"),
    [
        ("dsodenet20", 1, 12, {"width": 4, "steps": 2}),
        ("test_efficientnet.r160_in1k", 3, 32, {}),  # timm's smallest: depthwise, squeeze and excitation, SiLU
    ],
)
def test_the_file_takes_pixels_in_any_number_and_answers_as_the_net_does(name, channels, size, arguments, tmp_path):
    net = made(name, channels=channels, size=size, **arguments)
    net.order = torch.tensor([3, 1, 2, 0, 9, 8, 7, 6, 5, 4])
    onnx.export(net, tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        images = images_for(net, count, seed=count)
        with torch.no_grad():
            expected = net(images).numpy()
        (found,) = session.run(["logits"], {"images": images.numpy()})
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert [o.version for o in onnx_package.load(tmp_path / "x.onnx").opset_import if not o.domain] == [onnx.OPSET]


def test_the_metadata_says_classes_input_and_lineage_and_not_where_it_was_made(run, exported):
    net, said = zoo.load(run), metadata(exported.out)
    assert said["classes"] == list(TEN)
    assert said["input"] == {"size": 14, "channels": 1, "interpolation": "bilinear", "crop_pct": net.input.crop_pct}
    assert said["lineage"]["sha256"] == net.lineage.sha256
    assert said["lineage"]["tag"] == net.lineage.tag
    assert str(Path(limbeck.__file__).parent).encode() not in Path(exported.out).read_bytes()


def test_evaluate_finds_in_the_file_what_it_finds_in_the_run(run, exported):
    one, other = evaluate(run, data=DIGITS), evaluate(exported.out, data=DIGITS, teachers=(run,))
    assert other.teachers[0].agreement == 1.0
    assert other.evaluation.top1 == one.evaluation.top1
    assert other.evaluation.nll == pytest.approx(one.evaluation.nll, rel=1e-4)
    assert (other.parameters, other.macs) == (one.parameters, one.macs)
    assert "onnxruntime" in other.measured_on


def test_the_difference_said_is_small_and_of_real_logits(exported):
    assert 0 <= exported.difference <= TOLERANCE * exported.largest
    assert exported.images == 256
    assert f"{exported.difference:.2g}" in dict(exported.rows())["largest difference"]
    json.dumps(exported.to_json())


def test_a_file_that_answers_otherwise_gets_no_name(run, exported, tmp_path, monkeypatch):
    def wrong(net, path):
        model = onnx_package.load(exported.out)
        (gemm,) = (node for node in model.graph.node if node.op_type == "Gemm")
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == gemm.input[1])
        values = onnx_package.numpy_helper.to_array(weight) * np.float32(1.01)
        weight.CopyFrom(onnx_package.numpy_helper.from_array(values, weight.name))
        for seal in [found for found in model.metadata_props if found.value.startswith("limbeck-sha256")]:
            model.metadata_props.remove(seal)  # it is another net's file, not a damaged one
        onnx_package.save(model, path)

    monkeypatch.setattr(onnx, "export", wrong)
    out = tmp_path / "x.onnx"
    out.write_bytes(Path(exported.out).read_bytes())
    with pytest.raises(VerificationError, match=r"differ from PyTorch's by up to .* nothing was written"):
        export(run, out=str(out), data=DIGITS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert out.read_bytes() == Path(exported.out).read_bytes(), "the file of before"


def test_eight_bits_are_measured_and_say_what_evaluate_finds(run, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "export", lambda net, path: shutil.copy(exported.out, path))  # traced once is enough
    out = tmp_path / "x.onnx"
    with pytest.raises(VerificationError, match=r"--max-drop is -100, so nothing was written"):
        export(run, out=str(out), data=DIGITS, format="onnx-int8", calibration=64, max_drop=-100.0)
    assert list(tmp_path.iterdir()) == []
    done = export(run, out=str(out), data=DIGITS, format="onnx-int8", calibration=64, batch=256)
    assert done.compared.agreement > 0.9
    assert evaluate(str(out), data=DIGITS, batch=256).evaluation.top1 == done.compared.top1
    assert metadata(out)["classes"] == list(TEN)
    graph = onnx_package.load(out).graph
    int8 = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx_package.TensorProto.INT8}
    weights = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"} & int8
    assert len(weights) == len(list(zoo.load(run).net.parameters())) - 2 * 7 - 1  # neither norms' nor the bias
    assert f"{done.compared.top1:.2%}" in dict(done.rows())["8-bit top-1"]


@pytest.fixture(scope="module")
def program(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("programs") / "x.program"
    quantize(run, data=DIGITS, out=str(out), bits="w4a8", calibration=64)
    return str(out)


def test_qonnx_of_a_program_answers_as_it_does(program, tmp_path):
    done = export(program, out=str(tmp_path / "x.onnx"), data=DIGITS, format="qonnx")
    assert done.images == 256
    assert done.difference < 0.05 * done.largest
    assert done.compared is None
    assert "QONNX against the Program" in dict(done.rows())["largest difference"]
    assert load_model(program).classes == TEN
    noisy = export(program, out=str(tmp_path / "y.onnx"), format="qonnx")
    assert (tmp_path / "x.onnx").read_bytes() == (tmp_path / "y.onnx").read_bytes()
    assert noisy.difference != done.difference  # measured on other images


def test_qonnx_of_a_run_is_that_of_its_eight_bit_program_measured(run, tmp_path):
    done = export(run, out=str(tmp_path / "x.onnx"), data=DIGITS, format="qonnx", calibration=64)
    made = quantize(run, data=DIGITS, out=str(tmp_path / "x.program"), calibration=64)
    export(str(tmp_path / "x.program"), out=str(tmp_path / "y.onnx"), data=DIGITS, format="qonnx")
    assert (done.model, done.compared.top1, done.compared.agreement) == (run, made.top1, made.agreement)
    assert (tmp_path / "x.onnx").read_bytes() == (tmp_path / "y.onnx").read_bytes()
    with pytest.raises(VerificationError, match="--max-drop is -100, so nothing was written"):
        export(run, out=str(tmp_path / "z.onnx"), data=DIGITS, format="qonnx", calibration=64, max_drop=-100.0)
    assert not (tmp_path / "z.onnx").exists()


def test_qonnx_that_answers_otherwise_gets_no_name(program, tmp_path, monkeypatch):
    right = qonnx.graph

    def wrong(made):
        model = right(made)
        (weight,) = (table for table in model.graph.initializer if table.name == "head.fc.weight")
        values = -onnx_package.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx_package.numpy_helper.from_array(values, weight.name))
        return model

    monkeypatch.setattr(qonnx, "graph", wrong)
    with pytest.raises(VerificationError, match=r"differ from the Program's by up to .* nothing was written"):
        export(program, out=str(tmp_path / "x.onnx"), data=DIGITS, format="qonnx")
    assert list(tmp_path.iterdir()) == []


def test_qonnx_and_programs_are_refused_where_they_have_no_place(run, program, tmp_path):
    out = str(tmp_path / "x.onnx")
    with pytest.raises(InputError, match="is a Program, which can be exported with --format qonnx, c and page alone"):
        export(program, out=out)
    with pytest.raises(InputError, match="--format qonnx needs --data"):
        export(run, out=out, format="qonnx")
    with pytest.raises(InputError, match="leave it out"):
        export(program, out=out, data=DIGITS, format="qonnx", max_drop=1.0)
    export(program, out=out, data=DIGITS, format="qonnx")
    with pytest.raises(InputError, match="is QONNX, for FINN and hls4ml; give the Program"):
        evaluate(out, data=DIGITS)


def test_what_is_missing_is_named_with_the_remedy(run, exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for act in (lambda: evaluate(exported.out, data=DIGITS), lambda: export(run, out=str(tmp_path / "x.onnx"))):
        with pytest.raises(InputError, match=r"needs the package onnxruntime: pip install 'limbeck\[export\]'"):
            act()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limbeck": "2"}, "does not say what its classes are"),
        ({"classes": '["a", "a"]'}, "must be different names"),
        ({"classes": "7"}, "broken metadata"),
        ({"classes": '["a", "b"]'}, "other inputs or outputs than its metadata says"),
        (
            {"input": '{"size": 15, "channels": 1, "interpolation": "bilinear", "crop_pct": 1}'},
            "other inputs or outputs",
        ),
        ({"input": '{"size": 14, "channels": 1, "interpolation": "lanczos", "crop_pct": 1}'}, "can't be used"),
        ({"input": '{"size": 14}'}, "broken metadata"),
        ({"cost": "[" * 100_000}, "broken metadata"),
        ({"lineage": "{}"}, "broken metadata"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(exported, tmp_path, changes, message):
    model = onnx_package.load(exported.out)
    kept = {prop.key: prop.value for prop in model.metadata_props if prop.key != "seal"}
    onnx_package.helper.set_model_props(model, {**kept, **changes})
    onnx_package.save(model, tmp_path / "x.onnx")
    with pytest.raises(InputError, match=message):
        onnx.load(tmp_path / "x.onnx")


def test_what_is_no_onnx_file_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_text("not a model")
    with pytest.raises(InputError, match=r"x\.onnx is not a usable ONNX file"):
        onnx.load(tmp_path / "x.onnx")
    with pytest.raises(InputError, match=r"y\.onnx is missing"):
        onnx.load(tmp_path / "y.onnx")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": "x.bin"}, r"must end in \.onnx"),
        ({"format": "onnx-int8"}, "needs --data"),
        ({"max_drop": 1.0}, "leave it out"),
        ({"calibration": 0}, "--calibration is 0"),
        ({"format": "executorch"}, r"must end in \.pte"),
        ({"format": "executorch", "out": "x.pte", "max_drop": 1.0}, "leave it out|pip install"),
    ],
)
def test_settings_that_make_no_sense_are_refused(run, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        export(run, **{"out": str(tmp_path / "x.onnx"), **settings})
    assert list(tmp_path.iterdir()) == []


def test_a_file_teaches_as_its_run_does(run, exported, tmp_path):
    settings = {"data": DIGITS, "views": 1, "weak_teachers": True, "teacher_dtype": "float32"}
    for name, teacher in {"run": run, "file": exported.out}.items():
        limbeck.label(teachers=(teacher,), out=str(tmp_path / name), **settings)
    stores = [LabelStore.open(tmp_path / name) for name in ("run", "file")]
    images = torch.arange(200)
    ours, theirs = (recover(store.manifest, store.records(images * 0, images)) for store in stores)
    assert (ours - theirs).abs().max() < 2e-3  # they are stored as halves
    assert ours.std() > 0.02  # of a net that has not learnt
    assert limbeck.verify_labels(str(tmp_path / "file"), teachers=(exported.out,)).difference < 2e-3
    eight = export(run, data=DIGITS, format="onnx-int8", out=str(tmp_path / "x8.onnx"), calibration=64, batch=256)
    with pytest.raises(VerificationError, match="other weights"):  # though it was made of the same run
        limbeck.verify_labels(str(tmp_path / "file"), teachers=(eight.out,))
    limbeck.distill(data=DIGITS, student="resnet8", teachers=(eight.out,), out=str(tmp_path / "s"), dry_run=True)
