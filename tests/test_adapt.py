"""Adaptation: no label of the target reaches it, it resumes in the same bits, and what does not fit is refused."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from limbeck import cli, runs
from limbeck.errors import InputError
from limbeck.images import sources
from limbeck.images.source import subset
from limbeck.images.sources import open_source
from limbeck.learn.adapt import TwoDomains, Weights, adapt, bytes_changed, freeze_head, head_of, train_norms_only
from limbeck.learn.domain import DomainCritic
from limbeck.learn.objectives import ask
from limbeck.learn.select import Signs
from limbeck.nets import zoo
from limbeck.nets.norm import StepBatchNorm
from limbeck.training.adaptation.candidates import Judge
from limbeck.training.adaptation.domains import Domains, class_places, open_domains, pairs, randomisation_of
from limbeck.training.adaptation.methods import Method, Terms
from limbeck.training.sets import open_sets
from limbeck.training.settings import Training
from limbeck.verbs.adapt import adapt as verb

DIGITS = tuple("0123456789")
FAST = Training(epochs=2, batch=32, lr=0.03, limit=96, seed=3)
EVERYTHING = Weights(*[0.5] * 9)


def net(name: str = "resnet8", classes: tuple[str, ...] = DIGITS, channels: int = 1, **arguments) -> zoo.Classifier:
    torch.manual_seed(5)
    return zoo.create(name, classes=classes, channels=channels, size=8, arguments={"width": 4, **arguments})


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> str:
    """A net that knows optdigits a little."""
    out = str(tmp_path_factory.mktemp("runs") / "source")
    flags = "--data digits:optdigits --model resnet8 --arguments width=4 --size 8 --epochs 3 --batch 32 --limit 640"
    assert cli.main(["teach", *flags.split(), "--out", out]) == 0
    return out


def adapted(model: str, out: Path, training: Training = FAST, **settings):
    given = {"source": "digits:optdigits", "target": "digits:mfeat"} | settings
    return verb(model, out=str(out), training=training, **given)


def weights_of(folder: Path | str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


# ---- the objective --------------------------------------------------------------------------------------------


def pair(make_batch, seed: int = 0, count: int = 6):
    target = make_batch(seed, count, labelled=False)
    return replace(target, source=make_batch(seed + 1, count))


@pytest.fixture
def small() -> TwoDomains:
    torch.manual_seed(1)
    return TwoDomains(zoo.create("resnet8", classes=("a", "b", "c"), channels=1, size=4, arguments={"width": 4}))


def test_features_times_the_head_are_the_logits(small, make_batch):
    batch = pair(make_batch)
    head = head_of(small.classifier)
    features, logits, *_ = found = small.eval()(batch.images, batch.source.images)
    assert len(found) == 4
    torch.testing.assert_close(head(features), logits)
    torch.testing.assert_close(small.classifier(batch.source.images), found[3])
    assert not head._forward_pre_hooks


def test_a_domain_is_normalised_by_itself(small, make_batch):
    batch = pair(make_batch)
    alone = small.train()(batch.source.images)[1]
    beside = small(batch.images, batch.source.images)[3]
    torch.testing.assert_close(beside, alone)


def test_the_terms_add_up_and_each_alone_reaches_the_net(small, make_batch):
    batch, critic = pair(make_batch), DomainCritic(16, ramp=1)
    critic.calls.fill_(1)
    teachers = ask([zoo.create("resnet8", classes=("a", "b", "c"), channels=1, size=4, arguments={"width": 4})])
    loss, metrics = adapt(small, EVERYTHING, critic=critic, answer=teachers, confidence=0.0)(batch)
    names = set(vars(EVERYTHING))
    assert set(metrics) == names | {"loss", "source_accuracy"}
    torch.testing.assert_close(loss.detach(), sum(metrics[name] for name in names))
    for name in names:
        alone = replace(Weights(), **{name: 1.0})
        small.zero_grad()
        adapt(small, alone, critic=critic, answer=teachers, confidence=0.0)(batch)[0].backward()
        assert small.classifier.net.stem.conv.weight.grad.abs().sum() > 0, name


def test_a_targets_labels_are_refused(small, make_batch):
    with pytest.raises(AssertionError, match="must never reach"):
        adapt(small, EVERYTHING)(make_batch())


def test_mobileda_is_what_its_paper_adds_up(small, make_batch):
    # Yang et al. 2021: cross-entropy + CORAL of the logits + T² · KL, here as cross-entropy: the gradient is the same
    batch = pair(make_batch)
    teacher = zoo.create("resnet8", classes=("a", "b", "c"), channels=1, size=4, arguments={"width": 4}).eval()
    weights = Weights(source=1.0, coral=2.0, distil=3.0)
    loss, _ = adapt(small, weights, answer=ask([teacher], temperature=4.0), temperature=4.0)(batch)
    _, target, _, source = small(batch.images, batch.source.images)
    difference = np.cov(source.detach().numpy().T) - np.cov(target.detach().numpy().T)
    said = (teacher(batch.images) / 4).softmax(1).detach()
    expected = nn.functional.cross_entropy(source, batch.source.labels) + 2 * (difference**2).sum() / (4 * 9)
    expected = expected + 3 * 16 * nn.functional.cross_entropy(target / 4, said)
    torch.testing.assert_close(loss.detach(), expected.detach().to(loss.dtype), rtol=1e-5, atol=0)


def test_tent_trains_norms_and_shot_all_but_the_head():
    one, other = net("dsodenet20"), net("dsodenet20")
    train_norms_only(one)
    freeze_head(other)
    trained = {name for name, p in one.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in one.named_parameters() if ".norm" in name}
    assert {name for name, p in other.named_parameters() if not p.requires_grad} == {
        "net.head.fc.weight", "net.head.fc.bias"
    }  # fmt: skip


# ---- bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet8", "dsodenet20"])
def test_bytes_to_reload_are_counted(name):
    changed = net(name)
    before = {key: value.clone() for key, value in changed.state_dict().items()}
    parameters = sum(p.numel() for p in changed.parameters())
    norms = [m for m in changed.modules() if isinstance(m, nn.BatchNorm2d | StepBatchNorm)]
    affine = sum(m.weight.numel() for m in norms)
    evaluations = sum(m.running_var.numel() for m in norms)
    whole = 4 * (parameters - 2 * affine) + 8 * evaluations
    assert bytes_changed(before, changed) == (0, 0, whole)
    changed.net.stem.norm.running_mean.add_(1)
    assert bytes_changed(before, changed) == (0, 8 * 4, whole)
    with torch.no_grad():
        for p in changed.parameters():
            p.add_(1)
    assert bytes_changed(before, changed) == (4 * (parameters - 2 * affine), 8 * evaluations, whole)


# ---- batches --------------------------------------------------------------------------------------------------


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state()
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state()


def opened(target: str, source: str | None, training: Training = FAST) -> Domains:
    return open_domains(net(), "runs/net", target, source, training, runs.silent)


def shown(batches, count: int) -> list[list[int]]:
    return [b.indices.tolist() + b.source.indices.tolist() for b in itertools.islice(batches, count)]


def test_batches_from_anywhere_are_those_from_the_start(accelerator):
    training = replace(FAST, limit=80)
    drawn = pairs(
        opened("digits:mfeat", "digits:optdigits", training), training, accelerator, steps=3, size=8, channels=1,
        kind="strokes",
    )  # fmt: skip
    whole = list(itertools.islice(drawn(0, 0), 9))
    for number, batch in enumerate(whole):
        again = next(drawn(*divmod(number, 3)))
        assert torch.equal(again.images, batch.images)
        assert torch.equal(again.source.images, batch.source.images)
        assert torch.equal(again.source.labels, batch.source.labels)


def test_the_smaller_domain_comes_again_and_no_label_with_it(accelerator):
    domains = opened("digits:mfeat", "digits:optdigits")
    domains = replace(domains, target=subset(domains.target, range(32)))
    assert domains.steps(FAST, 1) == 3
    drawn = list(itertools.islice(pairs(domains, FAST, accelerator, steps=3, size=8, channels=1, kind="none")(0, 0), 3))
    assert all(sorted(batch.indices.tolist()) == list(range(32)) for batch in drawn)
    assert len({tuple(batch.indices.tolist()) for batch in drawn}) == 3
    assert all(batch.labels is None for batch in drawn)
    assert len(set(itertools.chain(*(batch.source.indices.tolist() for batch in drawn)))) == 96


def test_equally_large_domains_are_not_drawn_in_the_same_order(accelerator):
    drawn = pairs(opened("digits:mfeat", "digits:mfeat"), FAST, accelerator, steps=3, size=8, channels=1, kind="none")
    assert all(one[:32] != one[32:] for one in shown(drawn(0, 0), 3))


def test_a_grey_source_meets_a_coloured_target_on_its_backgrounds(accelerator):
    grey = opened("digits:mfeat", "digits:optdigits")
    colour = replace(grey, target=open_source("digits:mfeat", channels=3, labelled=False))
    assert randomisation_of("auto", grey) == "none"
    assert randomisation_of("auto", colour) == "backgrounds"
    assert randomisation_of("colours", colour) == "colours"
    for channels in (1, 3):
        drawn = pairs(colour, FAST, accelerator, steps=3, size=8, channels=channels, kind="backgrounds")
        assert next(drawn(0, 0)).source.images.shape == (32, channels, 8, 8)


# ---- no leak --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_permuting_the_targets_labels_changes_the_report_alone(taught, tmp_path, monkeypatch):
    settings = {"terms": Terms(mcc=1.0, pseudo=0.3, cdan=0.5), "select": "infomax", "confidence": 0.5}
    one = adapted(taught, tmp_path / "one", **settings)
    honest = sources._digits

    def permuted(spec, name, *rest):
        found = honest(spec, name, *rest)
        return replace(found, labels=(found.labels + 1) % 10) if name == "mfeat" else found

    monkeypatch.setattr(sources, "_digits", permuted)
    other = adapted(taught, tmp_path / "other", **settings)
    assert one.report.adapted > other.report.adapted
    for name in ("model.safetensors", "metrics.csv", "candidates/0001.npy", "candidates/0002.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name
    assert (one.chosen, one.signs, one.changed) == (other.chosen, other.signs, other.changed)


@pytest.mark.slow
def test_a_heap_of_images_is_adapted_to_like_the_set_it_came_from(taught, tmp_path):
    target = open_source("digits:mfeat", "train")
    for i in range(96):
        Path(tmp_path / "heap").mkdir(exist_ok=True)
        Image.fromarray(target.pixels[i, 0].numpy()).save(tmp_path / f"heap/{i:03d}.png")
    done = adapted(taught, tmp_path / "run", target=str(tmp_path / "heap"))
    assert done.report is None
    assert done.images == 96
    assert "labelled" not in dict(done.rows())
    assert json.loads((tmp_path / "run/results.json").read_text())["report"] is None


# ---- the verb -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_adapting_helps_and_says_what_it_did(taught, tmp_path):
    training = replace(FAST, epochs=4, limit=480)
    done = adapted(taught, tmp_path / "run", training)
    assert done.report.adapted > done.report.source_only + 0.1
    assert done.report.norm is not None
    assert (done.method, done.chosen, done.collapse) == ("combined", "0004", "")
    assert done.report.picks["last"] == ("0004", done.report.adapted)
    assert set(done.signs) == {"source", "norm", *(f"{i:04d}" for i in range(1, 5))}
    kept = zoo.load(str(tmp_path / "run"))
    assert "adapted to digits:mfeat" in kept.lineage.tag
    held_out = open_source("digits:mfeat", "val")
    said = torch.from_numpy(np.load(tmp_path / "run/candidates/0004.npy").astype(np.int64))
    assert float((said == held_out.labels).double().mean()) == pytest.approx(done.report.adapted)
    again = adapted(taught, tmp_path / "run", replace(training, resume=True), oracle=None)
    assert replace(again, seconds=0) == replace(done, seconds=0)


@pytest.mark.parametrize(("method", "moved"), [("norm", "statistics"), ("tent", "norms"), ("shot", "all but the head")])
def test_source_free_methods_touch_what_they_say(taught, tmp_path, method, moved):
    done = adapted(taught, tmp_path / "run", source=None, source_free=True, method=method)
    assert done.signs["norm"].source is None
    before = weights_of(taught)
    kept = {key for key, value in weights_of(tmp_path / "run").items() if not torch.equal(value, before[key])}
    kept = {key for key in kept if not key.endswith("num_batches_tracked")}
    statistics = {key for key in before if key.endswith(("running_mean", "running_var"))}
    affine = {key for key in before if "norm" in key and key.endswith(("weight", "bias"))}
    weights = {key for key in before if not key.endswith("num_batches_tracked")} - affine - statistics
    head = {key for key in before if "head" in key}
    expected = {"statistics": set(), "norms": affine, "all but the head": affine | weights - head}[moved]
    assert done.collapse == ""
    assert kept == statistics | expected


def test_entropy_alone_collapses_and_the_guard_says_so(taught, tmp_path):
    settings = {"source": None, "source_free": True, "method": "shot", "confidence": 1.0}
    done = adapted(
        taught, tmp_path / "run", replace(FAST, lr=0.5), terms=Terms(entropy=10.0, diversity=0.0), **settings
    )
    plain = adapted(taught, tmp_path / "norm", **{**settings, "method": "norm"})
    assert done.chosen == "norm"
    assert done.collapse in dict(done.rows())["collapsed"]
    assert done.report.adapted == plain.report.adapted == done.report.norm
    kept, expected = weights_of(tmp_path / "run"), weights_of(tmp_path / "norm")
    assert all(torch.equal(kept[key], expected[key]) for key in expected)


def test_class_folders_without_splits_are_adapted_to_whole(taught, tmp_path):
    target = folder_of(tmp_path / "target", {str(i): 5 for i in range(10)})
    done = adapted(taught, tmp_path / "run", replace(FAST, limit=None), target=target, source=None, source_free=True)
    assert (done.images, done.report.images) == (50, 10)


class Stop(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 4])
def test_an_interrupted_adaptation_ends_in_the_same_bytes(taught, tmp_path, monkeypatch, step):
    from limbeck.learn import fit

    settings = {"terms": Terms(cdan=1.0), "teachers": (taught,), "select": "snd", "randomise": "strokes"}
    training = replace(FAST, ema=0.9)
    adapted(taught, tmp_path / "whole", training, **settings)
    monkeypatch.setattr(fit, "TELL_SECONDS", 0)

    def tell(event, values):
        if event == "step" and values["step"] == step:
            raise Stop

    with pytest.raises(Stop):
        adapted(taught, tmp_path / "run", training, tell=tell, **settings)
    adapted(taught, tmp_path / "run", replace(training, resume=True), **settings)
    for name in ("model.safetensors", "metrics.csv", "candidates/0002.npy", "candidates/0002.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "run/state.pt").exists()


def test_new_statistics_need_no_more_than_two_images(taught, tmp_path):
    heap = tmp_path / "heap"
    heap.mkdir()
    for i in range(2):
        Image.fromarray(np.full((8, 8), 90 * i, dtype=np.uint8)).save(heap / f"{i}.png")
    whole = replace(FAST, limit=None)
    given = {"source": None, "source_free": True, "target": str(heap), "method": "norm", "training": whole}
    estimate = adapted(taught, tmp_path / "run", dry_run=True, **given)
    assert (estimate.steps, estimate.loss) == (0, None)
    assert estimate.seconds > 0
    assert ("loss so far", "-") in estimate.rows()
    assert not (tmp_path / "run").exists()
    done = adapted(taught, tmp_path / "run", **given)
    assert done.chosen in ("norm", "source")
    assert "each criterion picks" not in dict(done.rows())
    cut = adapted(taught, tmp_path / "other", **{**given, "method": "shot"})
    assert cut.epochs == whole.epochs, "a batch is cut to the two images"


def test_a_finished_run_keeps_its_time(taught, tmp_path):
    first = adapted(taught, tmp_path / "run", source=None, source_free=True)
    again = adapted(taught, tmp_path / "run", replace(FAST, resume=True), source=None, source_free=True)
    assert again.seconds == first.seconds == runs.read_json(tmp_path / "run/results.json")["seconds"]
    assert set(first.report.picks) == {"infomax", "snd", "entropy", "last"}, "there is no source to choose by"


def test_a_dry_run_writes_nothing(taught, tmp_path):
    found = adapted(taught, tmp_path / "run", dry_run=True)
    assert found.steps == 6
    assert not (tmp_path / "run").exists()


# ---- choosing -------------------------------------------------------------------------------------------------


def judged(folder: Path, criterion: str, *, said: dict[str, list[int]] | None = None, **signs: Signs) -> Judge:
    """With a source, unless it is told what the candidates said."""
    for name, found in signs.items():
        runs.write_json(folder / "candidates" / f"{name.removeprefix('e')}.json", found.to_json())
    for name, classes in (said or {}).items():
        np.save(folder / "candidates" / f"{name.removeprefix('e')}.npy", np.array(classes, dtype=np.uint16))
    source = open_sets("digits:optdigits", FAST) if said is None else None
    return Judge(Domains(None, None, source), FAST, None, folder, criterion)


def test_a_collapsed_net_is_given_up_for_the_one_with_new_statistics(tmp_path):
    start = Signs(infomax=1.0, snd=1.0, entropy=1.0, said=9.0)
    judge = judged(tmp_path, "last", source=start, norm=replace(start, infomax=0.9), e0001=replace(start, said=2.0))
    chosen, why = judge.choose()
    assert chosen == "norm"
    assert "2.0 classes where it predicted 9.0" in why


def test_statistics_that_make_a_net_collapse_are_given_up_too(tmp_path):
    start = Signs(infomax=1.0, snd=1.0, entropy=1.0, said=9.0)
    assert judged(tmp_path / "well", "last", source=start, norm=replace(start, infomax=0.1)).choose() == ("norm", "")
    judge = judged(tmp_path, "last", source=start, norm=replace(start, said=3.0))
    assert judge.choose() == ("source", "it predicts 3.0 classes where it predicted 9.0 before")


def test_a_healthy_net_is_kept_as_the_criterion_says(tmp_path):
    start = Signs(infomax=1.0, snd=1.0, entropy=1.0, said=9.0)
    epochs = {"e0001": replace(start, infomax=2.0), "e0002": replace(start, infomax=1.5, snd=3.0)}
    for criterion, expected in (("infomax", "0001"), ("snd", "0002"), ("last", "0002")):
        judge = judged(tmp_path / criterion, criterion, source=start, norm=start, **epochs)
        assert judge.choose() == (expected, "")


@pytest.mark.parametrize(
    ("after", "kept", "why"),
    [
        ([0, 1, 2, 3] * 2, "0001", ""),
        ([0, 1, 2, 0] * 2, "0001", ""),
        ([1, 2, 3, 0] * 2, "norm", "its predictions hardly agree with those before (Cohen's kappa -0.33)"),
    ],
)
def test_without_a_source_answers_that_were_swapped_are_given_up(tmp_path, after, kept, why):
    start = Signs(infomax=1.0, snd=1.0, entropy=1.0, said=4.0)
    said = {"norm": [0, 1, 2, 3] * 2, "e0001": after}
    assert judged(tmp_path, "last", said=said, source=start, norm=start, e0001=start).choose() == (kept, why)


def test_the_gap_closed_is_a_share_of_that_to_the_oracle(taught, tmp_path):
    done = adapted(taught, tmp_path / "run", method="norm", source=None, source_free=True, oracle=taught)
    assert done.report.oracle == done.report.source_only
    assert done.report.closed is None
    assert replace(done.report, oracle=done.report.source_only + 0.2, adapted=done.report.source_only + 0.1).closed == (
        pytest.approx(0.5)
    )


# ---- refusals -------------------------------------------------------------------------------------------------


def refusal(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["adapt", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("limbeck adapt: ")
    return lines[-1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--target digits:mfeat", "give --source"),
        ("--target digits:mfeat --source digits:mnist --source-free", "--source-free goes without --source"),
        ("--target digits:mfeat --source-free --method dann", "--method dann needs labelled source images"),
        ("--target digits:mfeat --source-free --method shot --coral 1", "--coral needs labelled source images"),
        ("--target digits:mfeat --source digits:mnist --method mobileda", "give --teachers"),
        ("--target digits:mfeat --source-free --mcc -1", "--mcc is -1.0, but must be from 0 to 1e+06"),
        ("--target digits:mfeat --source digits:mnist --dann 1 --cdan 1", "two critics"),
        ("--target digits:mfeat --source-free --mixup 0.2", "which a target does not have"),
        ("--target digits:mfeat --source-free --size 32", "keeps its input size"),
        ("--target digits:mfeat --source-free --accumulate 5000", "lower --accumulate"),
        ("--target digits:mfeat --source-free --temperature 0", "--temperature is 0.0, but must be from 1e-06 to"),
        ("--target digits:mfeat --source-free --confidence 7", "--confidence is 7.0, but must be more than 0 and at"),
        ("--target digits:mfeat --source digits:mnist --critic-lr -1", "--critic-lr is -1.0, but must be from 1e-06"),
        ("--target digits:mfeat --source-free --select source", "--select source needs labelled source images"),
        ("--target digits:mfeat --source-free --oracle nowhere/run", "nowhere/run is not a run: no model.json"),
    ],
)
def test_flags_that_do_not_fit_are_refused(taught, tmp_path, capsys, flags, said):
    assert said in refusal(capsys, taught, *flags.split(), "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"method": "mmc"}, {"select": "best"}, {"randomise": "photos"}])
def test_words_that_python_callers_misspell_are_refused(taught, tmp_path, wrong):
    ((name, word),) = wrong.items()
    with pytest.raises(InputError, match=f"--{name} is '{word}'; it must be one of "):
        adapted(taught, tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_an_oracle_of_other_classes_is_refused_before_training(taught, tmp_path, capsys):
    zoo.save(net(classes=("a", "b")), tmp_path / "oracle")
    flags = f"--target digits:mfeat --source-free --oracle {tmp_path}/oracle --out {tmp_path}/run"
    assert f"{tmp_path}/oracle has 2 classes and the data has 10" in refusal(capsys, taught, *flags.split())
    assert not (tmp_path / "run").exists()


def folder_of(root: Path, classes: dict[str, int]) -> str:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), 10 * i, dtype=np.uint8)).save(root / name / f"{i}.png")
    return str(root)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"cat": 3, "dog": 3}, "has 2 classes and the model 10: it lacks 0, 1, 2, 3, 4 and adds cat, dog"),
        ({str(i): 2 for i in range(9)}, "has 9 classes and the model 10: it lacks 9"),
        ({"3": 5}, "has one class only (3); a classifier needs two class folders; to adapt without labels pass --unl"),
        ({".": 1}, "has 1 image to adapt to"),
    ],
)
def test_targets_that_do_not_fit_are_refused(taught, tmp_path, capsys, classes, said):
    target = folder_of(tmp_path / "target", {} if "." in classes else classes)
    if "." in classes:
        (tmp_path / "target").mkdir()
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "target/a.png")
    found = refusal(capsys, taught, "--target", target, "--source-free", "--out", str(tmp_path / "run"))
    assert said in found
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_classes_is_refused(taught, tmp_path, capsys):
    zoo.save(net(classes=("a", "b")), tmp_path / "teacher")
    flags = f"--target digits:mfeat --source digits:optdigits --teachers {tmp_path}/teacher --out {tmp_path}/run"
    assert f"{tmp_path}/teacher has 2 classes and the data has 10" in refusal(capsys, taught, *flags.split())


def test_a_source_of_other_classes_is_refused(taught, tmp_path, capsys):
    source = folder_of(tmp_path / "source", {"cat": 4, "dog": 4})
    flags = f"--target digits:mfeat --source {source} --out {tmp_path}/run"
    assert f"{taught} has 10 classes and the data has 2" in refusal(capsys, taught, *flags.split())


def test_classes_named_otherwise_are_taken_in_order_and_the_user_is_told(taught, tmp_path, capsys):
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    target = folder_of(tmp_path / "target", dict.fromkeys(words, 2))
    told = []
    done = adapted(
        taught, tmp_path / "run", replace(FAST, limit=None), source=None, source_free=True, target=target,
        method="norm", tell=lambda event, values: told.append(values.get("text", "")),
    )  # fmt: skip
    assert "the report takes them in order: eight is 0, five is 1, ..." in " ".join(told)
    assert done.report.images == 10


def test_classes_in_another_order_are_put_in_order():
    assert class_places(("b", "a", "c"), ("a", "b", "c"), "T") == [1, 0, 2]
    assert class_places(("0", "1"), ("cat", "dog"), "T") == [0, 1]
    with pytest.raises(InputError, match="lacks c and adds d"):
        class_places(("a", "b", "d"), ("a", "b", "c"), "T")


def test_no_label_of_the_target_is_among_what_training_sees():
    domains = opened("digits:mfeat", "digits:optdigits")
    assert domains.target.labels is None
    assert domains.held_out.labels is None
    assert domains.target.classes == domains.held_out.classes == ()
    assert open_sets("digits:optdigits", FAST).train.labels is not None


def test_every_command_of_the_page_is_one():
    page = (Path(__file__).parents[1] / "docs/adaptation.md").read_text()
    lines = [line.split() for line in page.splitlines() if line.startswith("limbeck adapt ")]
    assert len(lines) >= 2
    for _, _, *arguments in lines:
        assert cli.parse(verb, arguments)["target"]
    assert all(f"`{method}`" in page for method in get_args(Method) if method != "auto")
