"""Evaluation: the figures are those of scikit-learn, on any number of ranks; the verb writes what it says."""

import csv
import json
import os
import socket
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from limbeck.errors import InputError
from limbeck.images.loader import Batch
from limbeck.images.sources import open_source
from limbeck.integer import file
from limbeck.integer.lower import lower
from limbeck.learn import evaluate as learn
from limbeck.learn.evaluate import Answers, agreement, answers, figures, predictions_csv, speed
from limbeck.nets import onnx, zoo
from limbeck.training.adaptation.adapted import ADAPTED, left
from limbeck.verbs.evaluate import evaluate

NAMES = tuple("abcdefgh")


def said(n=400, classes=8, never=7, seed=0):
    """Answers that are often right; nothing is of the class `never`, and nothing is called the class before it."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator)
    labels = torch.randint(0, never, (n,), generator=generator)
    logits[torch.arange(n), labels] += 1.5
    logits[:, never - 1] = -9.0
    return Answers(logits, labels)


def save_net(folder, *, classes=tuple("0123456789"), channels=1, size=28, seed=0, crop_pct=1.0, **arguments):
    torch.manual_seed(seed)
    net = zoo.create("resnet8", classes=classes, channels=channels, size=size, arguments={"width": 4, **arguments})
    with torch.no_grad():
        net.net.get_classifier().weight.mul_(20)  # untrained, but not undecided
    net.input = type(net.input)(**{**vars(net.input), "crop_pct": crop_pct})
    zoo.save(net, folder)
    return str(folder)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_are_those_of_scikit_learn():
    given = said()
    found = figures(given, NAMES)
    true, logits = given.labels.numpy(), given.logits.double()
    probabilities, every = logits.softmax(1).numpy(), np.arange(8)
    called = logits.argmax(1).numpy()
    assert found.top1 == metrics.accuracy_score(true, called)
    assert found.top5 == metrics.top_k_accuracy_score(true, probabilities, k=5, labels=every)
    assert found.nll == pytest.approx(metrics.log_loss(true, probabilities, labels=every), rel=1e-12)
    assert (found.confusion.numpy() == metrics.confusion_matrix(true, called, labels=every)).all()
    for own, theirs in ((found.recall, metrics.recall_score), (found.precision, metrics.precision_score)):
        expected = theirs(true, called, labels=every, average=None, zero_division=np.nan)
        np.testing.assert_allclose(own, expected, rtol=1e-12, equal_nan=True)
    assert np.isnan(found.recall[7])
    assert np.isnan(found.precision[6])


def test_calibration_is_that_of_few_lines_of_numpy_and_of_torchmetrics():
    given = said(seed=1)
    found = figures(given, NAMES)
    probabilities = given.logits.double().softmax(1).numpy()
    sure, right = probabilities.max(1), probabilities.argmax(1) == given.labels.numpy()
    place = np.digitize(sure, np.linspace(0, 1, 16), right=True) - 1
    gaps = [abs(right[place == i].mean() - sure[place == i].mean()) * (place == i).mean() for i in np.unique(place)]
    assert found.ece == pytest.approx(sum(gaps), rel=1e-12)
    theirs = multiclass_calibration_error(given.logits.softmax(1), given.labels, 8, n_bins=15)
    assert found.ece == pytest.approx(float(theirs), rel=1e-5)  # theirs is in float32
    assert [b.images for b in found.bins] == np.bincount(place, minlength=15).tolist()


def test_certain_answers_share_the_last_bin_with_nearly_certain_ones():
    logits = torch.tensor([[200.0, 0.0], [200.0, 0.0], [3.5, 0.0], [3.5, 0.0]])
    found = figures(Answers(logits, torch.tensor([0, 1, 0, 1])), ("a", "b"))
    assert [b.images for b in found.bins] == [0] * 14 + [4]
    sure = (2 + 2 / (1 + np.exp(-3.5))) / 4
    assert found.ece == pytest.approx(sure - 0.5)


def test_top_5_is_left_out_where_it_says_nothing():
    given = Answers(torch.eye(5), torch.arange(5))
    assert figures(given, NAMES[:5]).top5 is None


def test_mistakes_come_most_frequent_first():
    labels = torch.tensor([0] * 5 + [1] * 4 + [2] * 3)
    called = torch.tensor([0, 1, 1, 1, 2, 1, 1, 0, 0, 2, 2, 2])
    found = figures(Answers(nn.functional.one_hot(called, 3).float(), labels), ("a", "b", "c"))
    assert found.mistakes(2) == [("a", "b", 3), ("b", "a", 2)]
    assert found.mistakes(9) == [("a", "b", 3), ("b", "a", 2), ("a", "c", 1)]
    assert found.to_csv().splitlines()[1:] == ["a,5,0.2,0.333333,b,3", "b,4,0.5,0.4,a,2", "c,3,1,0.75,,0"]
    assert found.confusion_csv().splitlines() == ["true \\ predicted,a,b,c", "a,1,3,1", "b,2,2,0", "c,0,0,3"]


def test_json_holds_no_nan_where_classes_are_missing():
    found = figures(said(), NAMES).to_json()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["per_class"]["h"] == {"images": 0, "recall": None, "precision": 0.0}


def test_predictions_name_every_image():
    given = Answers(torch.tensor([[0.0, 2.0], [3.0, 0.0]]), torch.tensor([0, 0]))
    lines = predictions_csv(given, ("cat", "dog, small"), ("x/1.png", "x/2.png")).splitlines()
    assert lines == [
        "key,true,predicted,probability",
        f'x/1.png,cat,"dog, small",{1 / (1 + np.exp(-2)):.6g}',
        f"x/2.png,cat,cat,{1 / (1 + np.exp(-3)):.6g}",
    ]


def test_ten_thousand_classes_take_memory_for_the_pairs_that_occur_alone():
    classes, images = tuple(f"c{i}" for i in range(10_000)), 200
    torch.manual_seed(0)
    logits = torch.randn(images, len(classes))
    found = figures(Answers(logits, torch.arange(images) * 40), classes)
    assert found.pairs.shape == (images, 3)
    assert found.pairs[:, 2].sum() == images
    tracemalloc.start()
    found.to_csv(), found.confusion_csv(), found.to_json(), found.mistakes(3)
    assert tracemalloc.get_traced_memory()[1] < 50 * 10**6  # the matrix would take 800 MB, and its text more
    tracemalloc.stop()
    assert found.confusion_csv().splitlines()[0] == "true,predicted,images"


def test_agreement_counts_equal_calls():
    one, other = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert agreement(Answers(one, None), Answers(5 * one, None)) == 1.0
    assert agreement(Answers(one, None), Answers(other, None)) == 0.5


def batch_of(indices, labelled=True):
    images = torch.tensor(indices, dtype=torch.uint8).view(-1, 1, 1, 1)
    places = torch.tensor(indices)
    return Batch(images, places % 3 if labelled else None, places, None)


class Echo(nn.Module):
    def forward(self, images):
        assert not self.training
        return torch.stack([images.flatten(), -images.flatten().float(), torch.zeros(len(images))], dim=1)


def test_answers_are_in_the_sources_order_and_leave_the_mode_alone():
    model, told = Echo().train(), []
    found = answers(
        model, [batch_of([3, 0]), batch_of([2, 1])], total=4, tell=lambda event, values: told.append(values)
    )
    assert found.logits[:, 0].tolist() == [0, 1, 2, 3]
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert model.training
    assert told == [{"image": 2, "images": 4}, {"image": 4, "images": 4}]
    assert answers(model, [batch_of([0], labelled=False)]).labels is None


RANKS = """
import torch
from accelerate import PartialState
from limbeck.images.loader import Batch
from limbeck.learn.evaluate import answers

class Echo(torch.nn.Module):
    def forward(self, images):
        return torch.stack([images, -images], dim=1)

state = PartialState(cpu=True)
assert state.num_processes == 2
for shares in (((3, 0), (1,)), ((2,),)), (((1, 0),), ()):
    for labelled in (True, False):
        mine = [torch.tensor(indices) for indices in shares[state.process_index]]
        batches = [Batch(i, i % 3 if labelled else None, i, None) for i in mine]
        found = answers(Echo(), batches, accelerator=state)
        print(found.logits[:, 0].tolist(), found.labels.tolist() if labelled else found.labels)
state.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_gather_the_same_answers_though_one_may_have_none():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    script = [sys.executable, "-c", RANKS]
    ranks = [
        subprocess.Popen(
            script, env={**shared, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    results = [process.communicate(timeout=120) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], results
    expected = [
        "[0.0, 1.0, 2.0, 3.0] [0, 1, 2, 0]",
        "[0.0, 1.0, 2.0, 3.0] None",
        "[0.0, 1.0] [0, 1]",
        "[0.0, 1.0] None",
    ]
    assert [out.splitlines() for out, _ in results] == [expected, expected]


def test_speed_is_that_of_the_fastest_batch(monkeypatch):
    clock = [0.0]
    seconds = iter([9.0, 0.3, 0.125, 0.3])
    monkeypatch.setattr(learn.time, "perf_counter", lambda: clock[0])

    @dataclass
    class Slow:
        def __call__(self, images):
            clock[0] += next(seconds)
            return images

    assert speed(Slow(), torch.zeros(50, 1), seconds=0.5) == 400


@pytest.mark.slow
def test_the_verb_writes_what_it_says(tmp_path):
    one, other = save_net(tmp_path / "one"), save_net(tmp_path / "other", seed=1)
    rows = [{"epoch": 1, "lr": 0.1, "loss": 2.5, "val_top1": 0.1}, {"epoch": 2, "lr": 0.1, "loss": 2}]
    (tmp_path / "one" / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out = tmp_path / "out"
    found = evaluate(one, data="digits:optdigits", split="test", teachers=(one, other), out=str(out))
    predictions = rows_of(out / "predictions.csv")
    source = open_source("digits:optdigits", "test")
    assert [row["key"] for row in predictions] == list(source.keys)
    assert [int(row["true"]) for row in predictions] == source.labels.tolist()
    assert np.mean([row["true"] == row["predicted"] for row in predictions]) == found.evaluation.top1
    recall = {row["class"]: float(row["recall"]) for row in rows_of(out / "per_class.csv")}
    assert recall == pytest.approx(dict(zip(source.classes, found.evaluation.recall, strict=True)), rel=1e-5)
    confusion = [[int(row[name]) for name in source.classes] for row in rows_of(out / "confusion.csv")]
    assert confusion == found.evaluation.confusion.tolist()
    assert json.loads((out / "evaluation.json").read_text()) == found.to_json()
    assert sorted(found.files) == sorted(map(str, out.iterdir()))
    pictures = {path.name for path in out.iterdir() if path.suffix == ".svg"}
    assert pictures == {"confusion.svg", "reliability.svg", "curves.svg"}
    assert found.teachers[0].agreement == 1.0
    assert found.teachers[0].top1 == found.evaluation.top1
    assert found.teachers[1].agreement < 1.0
    assert found.teachers[1].top1 == evaluate(other, data="digits:optdigits", split="test").evaluation.top1


def test_cost_is_that_of_the_layer_table_and_flops_are_twice_macs(tmp_path):
    from limbeck.nets.count import count

    net = save_net(tmp_path / "net")
    found = evaluate(net, data="digits:optdigits")
    table = count(zoo.load(net).net, (1, 28, 28))
    assert (found.parameters, found.macs) == (table.parameters, table.macs)
    assert found.to_json()["flops"] == 2 * table.macs
    assert f"{table.macs:,} per image = {2 * table.macs:,} FLOPs" in dict(found.rows())["MACs"]


def folder_set(root, classes, images=2):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(images):
                pixels = generator.integers(0, 256, (110 + 10 * i, 130, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return str(root)


@pytest.mark.slow
def test_classes_in_another_order_are_put_in_order(tmp_path):
    data = folder_set(tmp_path / "data", ("cat", "dog"))
    net = save_net(tmp_path / "net", classes=("dog", "cat"), channels=3, size=32)
    found = evaluate(net, data=data, workers=0, out=str(tmp_path / "out"))
    own = zoo.load(net).eval()
    with torch.no_grad():
        first = torch.from_numpy(np.array(Image.open(tmp_path / "data/val/cat/0.png").crop((10, 0, 120, 110))))
        whole = own(first.permute(2, 0, 1)[None]).softmax(1)[0]  # crop_pct is 1: the centre square, all of it
    row = rows_of(tmp_path / "out" / "predictions.csv")[0]
    assert row["key"] == "val/cat/0.png"
    assert row["predicted"] == ("dog", "cat")[int(whole.argmax())]
    assert float(row["probability"]) == pytest.approx(float(whole.max()), abs=0.02)  # resized in 8 bits there
    assert "another order" in " ".join(found.notes)


def test_other_classes_are_refused(tmp_path):
    data = folder_set(tmp_path / "data", ("cat", "dog"))
    net = save_net(tmp_path / "net", classes=("cat", "cow"))
    with pytest.raises(InputError, match="does not have the data's class 'dog'"):
        evaluate(net, data=data, workers=0)
    three = save_net(tmp_path / "three", classes=("cat", "cow", "pig"))
    with pytest.raises(InputError, match="has 3 classes and the data has 2"):
        evaluate(three, data=data, workers=0)


def test_data_with_some_of_the_classes_is_measured_among_all_of_them(tmp_path):
    data = folder_set(tmp_path / "data", ("cat", "dog"))
    found = evaluate(save_net(tmp_path / "net", classes=("cat", "cow", "dog")), data=data, workers=0)
    assert found.evaluation.classes == ("cat", "cow", "dog")
    assert set(found.evaluation.pairs[:, 0].tolist()) == {0, 2}
    assert "has images of 2 of the 3 classes" in " ".join(found.notes)


@pytest.mark.slow
def test_a_figure_of_a_domain_that_an_adapted_net_left_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = zoo.load(save_net(tmp_path / "net"))
    net.lineage = replace(net.lineage, tag=f"resnet8{ADAPTED}digits:optdigits")
    zoo.save(net, tmp_path / "adapted")
    adapted = str(tmp_path / "adapted")
    file.save(lower(net.eval(), open_source("digits:mfeat").pixels[:8]), tmp_path / "a.program")
    onnx.export(net.eval(), tmp_path / "a.onnx")
    for model in (adapted, str(tmp_path / "a.program"), str(tmp_path / "a.onnx")):
        notes = [evaluate(model, data=data, images=20).notes for data in ("digits:optdigits", "digits:mfeat")]
        assert not any("left" in note for note in notes[0])
        assert any(
            note.startswith(
                "the net was adapted to digits:optdigits; unless digits:mfeat is from there, its figures are"
            )
            for note in notes[1]
        )
    (tmp_path / "field").mkdir()
    assert left(f"x{ADAPTED}field", "./field/") == ""
    assert left("x", "field") == ""


def test_what_has_no_labels_is_refused(tmp_path):
    folder_set(tmp_path / "data", ("cat", "dog"))
    net = save_net(tmp_path / "net")
    with pytest.raises(InputError, match=r"no labels to measure by; limbeck predict"):
        evaluate(net, data=str(tmp_path / "data/val/cat"), split="train")


def test_weights_that_answer_infinities_are_refused(tmp_path):
    net = zoo.load(save_net(tmp_path / "net"))
    with torch.no_grad():
        net.net.get_classifier().weight.fill_(3e38)
    zoo.save(net, tmp_path / "huge")
    with pytest.raises(InputError, match="outputs NaN or infinity"):
        evaluate(str(tmp_path / "huge"), data="digits:optdigits")


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path):
    net = save_net(tmp_path / "net")
    (tmp_path / "file").write_text("")
    told = []
    with pytest.raises(InputError, match="is there already and stays as it is"):
        evaluate(net, data="digits:optdigits", out=str(tmp_path / "file"), tell=lambda *event: told.append(event))
    assert not told
    assert (tmp_path / "file").read_text() == ""


def test_a_broken_history_is_named(tmp_path):
    net = save_net(tmp_path / "net")
    (tmp_path / "net" / "metrics.jsonl").write_text("epoch 1")
    with pytest.raises(InputError, match=r"metrics\.jsonl is not a run's list of epochs"):
        evaluate(net, data="digits:optdigits", out=str(tmp_path / "out"))


@pytest.fixture
def program(tmp_path):
    """A run, and the Program of it: of a net that sees a part of larger images, resized its own way."""
    from limbeck.integer.file import save
    from limbeck.integer.lower import lower

    save_net(tmp_path / "net", classes=("cat", "dog"), channels=3, size=32, crop_pct=0.8)
    net = zoo.load(str(tmp_path / "net")).eval()
    net.input = type(net.input)(**{**vars(net.input), "interpolation": "bicubic"})
    zoo.save(net, tmp_path / "net")
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    save(lower(net, images, weight_bits=16, activation_bits=16), tmp_path / "x.program")
    return str(tmp_path / "net"), str(tmp_path / "x.program")


@pytest.mark.slow
def test_a_program_is_measured_on_the_views_that_its_net_is_measured_on(program, tmp_path):
    net, path = program
    data = folder_set(tmp_path / "data", ("dog", "cat"), images=3)  # in another order, too
    one = evaluate(net, data=data, workers=0, out=str(tmp_path / "one"))
    other = evaluate(path, data=data, workers=0, out=str(tmp_path / "other"), teachers=(net,), batch=4)
    assert other.teachers[0].agreement == 1.0
    rows, others = (rows_of(tmp_path / name / "predictions.csv") for name in ("one", "other"))
    assert [row["predicted"] for row in others] == [row["predicted"] for row in rows]
    probabilities = [[float(row["probability"]) for row in table] for table in (rows, others)]
    assert probabilities[1] == pytest.approx(probabilities[0], abs=0.01)  # 16 bits, and pixels rounded after resizing
    assert other.macs == one.macs
    assert "numpy" in other.measured_on
    json.dumps(other.to_json(), allow_nan=False)


def test_a_program_answers_in_its_own_scores(program):
    from limbeck.artefacts.models import load_model
    from limbeck.integer.file import load
    from limbeck.integer.program import run

    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    integers = load(program[1])
    expected = (run(integers, images.numpy()) * integers.scale).astype(np.float32)
    for batch in (images, images.float()):
        np.testing.assert_array_equal(load_model(program[1])(batch).numpy(), expected)


def test_a_file_that_is_no_program_is_refused(tmp_path):
    (tmp_path / "x.program").write_text("not a program")
    with pytest.raises(InputError, match=r"x\.program is not a program file"):
        evaluate(str(tmp_path / "x.program"), data="digits:optdigits")
