"""ExecuTorch: a file answers as the net does, says all that a stranger must know, and has a name only then."""

import sys
from pathlib import Path

import pytest
import torch
from test_export import DIGITS, TEN, images_for, made
from tools import need

from limbeck.artefacts.models import load_model
from limbeck.deploy.export import TOLERANCE
from limbeck.errors import InputError, VerificationError
from limbeck.nets import executorch, zoo
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.export import export


@pytest.fixture
def installed():
    need("executorch")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.apart
@pytest.mark.usefixtures("installed")
def test_the_file_answers_as_the_net_does_and_evaluates(tmp_path):
    net = made("dsodenet20", channels=1, size=14, width=4, steps=2)
    zoo.save(net, tmp_path / "run")
    done = export(str(tmp_path / "run"), out=str(tmp_path / "x.pte"), format="executorch", workers=0)
    assert 0 < done.difference <= TOLERANCE * done.largest
    assert done.opset is None
    assert done.size == Path(done.out).stat().st_size
    loaded, images = load_model(done.out), images_for(net, 3)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), net(images), atol=TOLERANCE * done.largest, rtol=0)
        assert loaded(images[:0]).shape == (0, 10)
    assert (loaded.classes, loaded.input.size) == (TEN, 14)
    whole = Path(done.out).read_bytes()
    for place in range(0, len(whole), len(whole) // 50):
        (tmp_path / "y.pte").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match="is damaged"):
            load_model(str(tmp_path / "y.pte"))
    expected = evaluate(str(tmp_path / "run"), data=DIGITS, workers=0).evaluation.top1
    assert evaluate(done.out, data=DIGITS, workers=0).evaluation.top1 == pytest.approx(expected, abs=0.01)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.apart
@pytest.mark.usefixtures("installed")
def test_a_file_that_answers_otherwise_gets_no_name(tmp_path, monkeypatch):
    zoo.save(made("dsodenet20", channels=1, size=14, width=4, steps=2), tmp_path / "run")
    right = executorch.export
    monkeypatch.setattr(executorch, "export", lambda _net, path: right(made("resnet8", size=14, width=4, seed=1), path))
    with pytest.raises(VerificationError, match=r"ExecuTorch's logits differ from PyTorch's .* nothing was written"):
        export(str(tmp_path / "run"), out=str(tmp_path / "x.pte"), format="executorch", workers=0)
    assert not (tmp_path / "x.pte").exists()


@pytest.mark.apart
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("content", [b"", b"not a model" * 99])
def test_what_is_no_such_file_is_refused(content, tmp_path):
    (tmp_path / "x.pte").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pte is not an ExecuTorch file of limbeck export"):
        load_model(str(tmp_path / "x.pte"))
    with pytest.raises(InputError, match=r"y\.pte is missing"):
        load_model(str(tmp_path / "y.pte"))


def test_what_is_missing_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch", None)
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    zoo.save(made("resnet8", size=14, width=4), tmp_path / "run")
    for act in (
        lambda: load_model("x.pte"),
        lambda: export(str(tmp_path / "run"), out=str(tmp_path / "x.pte"), format="executorch"),
    ):
        with pytest.raises(InputError, match=r"needs the package executorch: pip install 'limbeck\[executorch\]'"):
            act()
    assert not (tmp_path / "x.pte").exists()
