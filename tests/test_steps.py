"""limbeck steps: runs with fewer or more steps, each a net that every verb takes."""

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.errors import InputError
from limbeck.learn.evaluate import Evaluation
from limbeck.nets import zoo
from limbeck.nets.odenet import ode_blocks
from limbeck.training.settings import Training
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.steps import steps
from limbeck.verbs.teach import teach

pytestmark = pytest.mark.slow

DATA = "digits:mfeat"
QUICK = Training(epochs=1, batch=64, limit=512, lr=0.1, random_steps=True)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Return the folder of a small ODE net that learned with random steps."""
    out = str(tmp_path_factory.mktemp("taught") / "run")
    teach(data=DATA, model="dsodenet20", arguments=("width=8", "stem=3x3/2"), out=out, training=QUICK)
    return out


def test_each_number_of_steps_is_a_run_of_the_same_weights(taught, tmp_path):
    done = steps(taught, data=DATA, out=str(tmp_path), steps=(1, 4), images=128)
    assert [speed.steps for speed in done.speeds] == [(3, 2, 2), (1, 1, 1), (4, 4, 4)]
    assert done.speeds[1].macs < done.speeds[0].macs < done.speeds[2].macs
    assert all(speed.seconds > 0 for speed in done.speeds)
    assert (tmp_path / "steps.svg").exists()
    whole = zoo.load(taught)
    for speed in done.speeds[1:]:
        net = zoo.load(speed.out)
        for old, new in zip(whole.parameters(), net.parameters(), strict=True):
            assert torch.equal(old, new)
        spans = [block.h * block.steps for block in ode_blocks(net).values()]
        assert spans == pytest.approx([3.0, 2.0, 2.0])
        found = evaluate(speed.out, data=DATA)
        assert isinstance(found.evaluation, Evaluation)
        assert found.evaluation.top1 == speed.top1


def test_statistics_are_those_of_the_images_that_were_seen(taught, tmp_path):
    few, many = (steps(taught, data=DATA, out=str(tmp_path / str(n)), steps=(1,), images=n) for n in (32, 256))
    a, b = (zoo.load(done.speeds[1].out).state_dict() for done in (few, many))
    different = {name for name in a if not torch.equal(a[name], b[name])}
    assert different == {name for name in a if "running" in name or "tracked" in name}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"steps": ()}, "give different steps"),
        ({"steps": (2, 2)}, "give different steps"),
        ({"steps": (0,)}, "give different steps, each 1 or more"),
        ({"images": 0}, "1 image or more"),
    ],
)
def test_wrong_steps_are_refused_before_anything_is_written(taught, tmp_path, how, words):
    with pytest.raises(InputError, match=words):
        steps(taught, data=DATA, out=str(tmp_path / "out"), **how)
    assert not (tmp_path / "out").exists()


def test_steps_do_not_write_over_what_is_there(taught, tmp_path):
    out = tmp_path / "speeds"
    steps(taught, data=DATA, out=str(out), steps=(1,), images=32)
    with pytest.raises(InputError, match="is a folder that is not empty and stays as it is"):
        steps(taught, data=DATA, out=str(out), steps=(2, 1), images=32)
    with pytest.raises(InputError, match="is also an input"):
        steps(taught, data=DATA, out=taught, steps=(2,), images=32)
    assert not (out / "2").exists()


def test_images_without_labels_give_times_but_no_accuracy(taught, tmp_path):
    heap = tmp_path / "heap"
    heap.mkdir()
    for i in range(9):
        Image.fromarray(np.full((28, 28), 20 * i, dtype=np.uint8)).save(heap / f"{i}.png")
    done = steps(taught, data=str(heap), out=str(tmp_path / "out"), steps=(1,))
    assert [speed.top1 for speed in done.speeds] == [None, None]
    assert done.plot == ""
    assert zoo.load(done.speeds[1].out).arguments["steps"] == [1, 1, 1]


def test_random_steps_are_for_nets_with_ode_blocks(tmp_path):
    with pytest.raises(InputError, match="--random-steps is for nets with ODE blocks"):
        teach(data=DATA, model="resnet8", out=str(tmp_path / "run"), training=QUICK)
    assert not (tmp_path / "run").exists()
