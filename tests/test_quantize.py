"""The verb quantize: a Program that was trained in its integers is nearer to the float net; interrupted, nothing is."""

import json
from typing import get_args

import pytest
import torch

from limbeck.deploy.quantise import Bits, widths
from limbeck.errors import InputError
from limbeck.images.sources import open_source
from limbeck.learn import fit
from limbeck.nets import zoo
from limbeck.nets.norm import reestimate
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.quantize import quantize

DIGITS = "digits:optdigits"


@pytest.fixture
def run(tmp_path):
    """An untrained net with decided answers, whose norms have seen digits."""
    torch.manual_seed(0)
    made = zoo.create("dsodenet20", classes=tuple("0123456789"), channels=1, size=14, arguments={"width": 4})
    with torch.no_grad():
        made.net.get_classifier().weight.mul_(20)
    pixels = open_source(DIGITS, "train").pixels[:128]
    reestimate(made.net, [made.prepare(pixels)])
    zoo.save(made, tmp_path / "run")
    return str(tmp_path / "run")


@pytest.mark.slow
def test_training_brings_the_program_nearer_to_the_float_net(run, tmp_path):
    hard = {"data": DIGITS, "bits": "w4a8", "state_bits": 8, "calibration": 64}
    before = quantize(run, out=str(tmp_path / "a.program"), **hard)
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    after = quantize(run, out=str(tmp_path / "b.program"), train=True, epochs=2, lr=0.01, **hard)
    assert after.agreement > before.agreement
    assert (before.epochs, after.epochs) == (0, 2)
    assert after.float_top1 == before.float_top1  # the float net is the one it was
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    assert evaluate(str(tmp_path / "b.program"), data=DIGITS).evaluation.top1 == after.top1


@pytest.mark.slow
def test_an_interruption_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "TELL_SECONDS", 0.0)

    def tell(event, values):
        if event == "step":
            raise KeyboardInterrupt

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        quantize(run, data=DIGITS, out=str(tmp_path / "x.program"), train=True, calibration=64, tell=tell)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_every_layer_that_rounds_has_a_row(run, tmp_path):
    done = quantize(run, data=DIGITS, out=str(tmp_path / "x.program"), calibration=64)
    rows = dict(done.rows())
    assert {layer.path for layer in done.layers} <= set(rows)
    assert rows["layer1.f.conv1.space.depthwise"].startswith("w8 a8 -> 8, ")
    assert "% saturated" in rows["stem.conv"]
    noisiest = min(done.layers, key=lambda layer: layer.own_snr)
    assert rows["noisiest layer"].startswith(noisiest.path)
    assert rows["noisiest layer"].endswith("--wide makes it 16 bits")
    json.dumps(done.to_json(), allow_nan=False)
    sixteen = quantize(run, data=DIGITS, out=str(tmp_path / "y.program"), bits="16", calibration=64)
    assert dict(sixteen.rows())["noisiest layer"].endswith(" dB"), "it has 16 bits already"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "found"),
    [("8", (8, 8)), ("16", (16, 16)), ("8/16", (8, 16)), ("w8a8", (8, 8)), ("w4a8", (4, 8)), ("4/16", (4, 16))],
)
def test_bits_are_weights_then_activations_in_either_spelling(bits, found):
    assert widths(bits) == found


@pytest.mark.slow
def test_every_spelling_of_the_command_line_is_understood_and_can_be_lowered():
    for bits in get_args(Bits):
        weights, activations = widths(bits)
        assert weights in (4, 8, 16)
        assert activations in (8, 16)


@pytest.mark.slow
def test_training_four_bits_brings_back_what_calibration_lost(run, tmp_path):
    hard = {"data": DIGITS, "bits": "w4a8", "eight": (), "calibration": 64}
    before = quantize(run, out=str(tmp_path / "a.program"), **hard)
    after = quantize(run, out=str(tmp_path / "b.program"), train=True, epochs=1, lr=0.01, **hard)
    assert after.agreement > before.agreement
    assert dict(after.rows())["layer1.f.conv1.space.depthwise"].startswith("w4 a8 -> 8, ")
    assert dict(before.rows())["weights and tables"].startswith(f"{before.stored:,} bytes")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": "x.bin"}, r"must end in \.program"),
        ({"calibration": 0}, "--calibration is 0"),
        ({"epochs": 0, "train": True}, "--epochs is 0"),
        ({"lr": 0.0, "train": True}, "--lr is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(run, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        quantize(run, **{"data": DIGITS, "out": str(tmp_path / "x.program"), **settings})
    assert not (tmp_path / "x.program").exists()
