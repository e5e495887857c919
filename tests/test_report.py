"""The report: one file that asks nobody, whose figures are those of others' code, and that no run's text can break."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from report_runs import CLASSES, IMAGES, SCRIPT, photos, run, story
from scipy.stats import binomtest
from sklearn.decomposition import PCA

from limbeck import cli
from limbeck.artefacts import readers as artefacts
from limbeck.errors import InputError
from limbeck.images.source import evenly
from limbeck.images.sources import open_source
from limbeck.integer import file
from limbeck.integer.noise import noise
from limbeck.learn.adapt import TwoDomains
from limbeck.learn.evaluate import Answers
from limbeck.nets import zoo
from limbeck.page import accelerator, layers, lineage, measured, words
from limbeck.page.asked import Sight, adaptation, ask_all, in_order
from limbeck.page.page import pictured
from limbeck.page.story import tiles
from limbeck.page.values import Net, wilson
from limbeck.runs import silent
from limbeck.training.adaptation.adapted import ADAPTED
from limbeck.verbs.report import report as report_of

pytestmark = pytest.mark.slow

report = partial(report_of, trust=True)  # the runs are our own

SECTIONS = ["nets", "training", "mistakes", "calibration", "teachers", "adaptation", "layers", "accelerator", "cost",
            "lineage", "commands"]  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Parsed(HTMLParser):
    """Tags in their order, all attributes, the text outside of <style>; every tag is closed by its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def of(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The folder of a story's runs, and its page."""
    folder = tmp_path_factory.mktemp("told")
    runs = story(folder)
    out = folder / "report.html"
    return runs, out, report(str(runs), out=str(out))


@pytest.fixture(scope="module")
def page(told):
    return told[1].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(page):
    return Parsed(page)


def test_every_section_is_there_in_its_order_and_in_the_contents(parsed):
    assert [name for name in parsed.of("id") if name in SECTIONS] == SECTIONS
    assert [value[1:] for value in parsed.of("href") if value.startswith("#")][: len(SECTIONS)] == SECTIONS


def test_no_id_comes_twice(parsed):
    assert sorted(set(parsed.of("id"))) == sorted(parsed.of("id"))


def test_nothing_in_the_page_is_loaded_from_elsewhere(page, parsed):
    loading = [value for name in ("src", "href", "srcset", "data", "action", "poster") for value in parsed.of(name)]
    assert all(value.startswith(("#", "data:")) for value in loading)
    assert set(re.findall(r"url\([\s'\"]*(.)", page)) <= {"#"}
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_what_runs_say_is_text_and_never_a_tag(page, parsed):
    assert {"script", "iframe", "object", "embed", "form"} & set(parsed.tags) == set()
    assert not any(name.startswith("on") for _, name, _ in parsed.attributes)
    assert "<b>CC0</b>" not in page
    assert "<b>CC0</b>" in parsed.text
    assert parsed.text.count(SCRIPT) > 10  # a class, a run, a version, a metric


def test_every_picture_is_well_formed_and_says_what_it_is(page):
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) > 15
    for picture in drawn:
        root = ElementTree.fromstring(picture)
        assert root.get("aria-hidden") or root[0].tag == "title"


def test_pictures_are_few_and_are_png(parsed):
    shown = [value for tag, name, value in parsed.attributes if (tag, name) == ("img", "src")]
    assert 0 < len(shown) <= 56
    assert all(value.startswith("data:image/png;base64,iVBOR") for value in shown)


def test_the_result_ends_with_the_path(told):
    _, out, done = told
    assert done.rows()[-1] == ("report", str(out))
    assert done.size == out.stat().st_size
    assert done.left_out == ()
    assert done.title == "resnet8, distilled from 2 teachers"
    assert json.loads(json.dumps(done.to_json()))["out"] == str(out)


def test_shares_are_those_of_evaluate(told):
    from limbeck.verbs.evaluate import evaluate

    runs, _, done = told
    here = str(runs.parent / "here")
    for name in ("teacher1", "hard"):
        assert dict(done.nets)[name] == evaluate(str(runs / name), data=here).evaluation.top1


def asked_of(runs):
    """The adapted run of a story, all nets, and their sight."""
    found = in_order(artefacts.find([str(runs)])[0])
    sight = Sight(None, None, 2000, trust=True)
    every = ask_all(found, artefacts.named(found), sight, False, silent)
    return next(one for one in every if one.verb == "adapt"), every, sight


def test_an_adapted_net_stands_beside_the_one_that_it_came_from(told):
    from limbeck.verbs.evaluate import evaluate

    after, every, sight = asked_of(told[0])
    found = adaptation(after, every, sight, 3, 5)
    here, there = (str(told[0].parent / name) for name in ("here", "there"))
    student, adapted = (str(told[0] / name) for name in (f"student {SCRIPT}", "adapted"))
    measured_now = [evaluate(net, data=data).evaluation for net in (student, adapted) for data in (here, there)]
    assert found.on_source == (measured_now[0].top1, measured_now[2].top1)
    assert found.found[0].confusion.equal(measured_now[1].confusion)
    assert found.found[1].confusion.equal(measured_now[3].confusion)
    assert dict(found.shares) == {"source-only": 0.4, "new statistics": 0.5, "adapted": 0.7}
    assert [row.name for row in found.recall if row.fell] == [CLASSES[1]]
    assert len(found.mistakes) <= 3
    assert found.missing == ""


def test_what_an_adaptation_changed_needs_no_labels(told, tmp_path):
    """Against the definition, image by image; and the page says that nobody knows the accuracy."""
    heap = tmp_path / "heap"
    heap.mkdir()
    for place, image in enumerate(sorted((told[0].parent / "there/val").rglob("*.png"))):
        shutil.copy(image, heap / f"{place:02}.png")
    for name in ("adapted", f"student {SCRIPT}"):
        shutil.copytree(told[0] / name, tmp_path / "runs" / name)
    results = json.loads((tmp_path / "runs/adapted/results.json").read_text())
    (tmp_path / "runs/adapted/results.json").write_text(json.dumps({**results, "report": None, "evaluation": None}))
    out = tmp_path / "r.html"
    report(str(tmp_path / "runs"), out=str(out), target_data=str(heap), latency=False)
    text = Parsed(out.read_text()).text
    found = in_order(artefacts.find([str(tmp_path / "runs")])[0])
    sight = Sight(None, str(heap), 2000, trust=True)
    every = ask_all(found, artefacts.named(found), sight, False, silent)
    before, after = sorted((one for one in every), key=lambda one: one.verb == "adapt")
    made = adaptation(after, every, sight, 3, 5)
    source = open_source(str(heap), "train", labelled=False)
    both = [measured.ask(one.classifier, source, "it").logits.softmax(1) for one in (before, after)]
    calls = [[int(row.argmax()) for row in shares] for shares in both]
    turned = [i for i, (was, now) in enumerate(zip(*calls, strict=True)) if was != now]
    assert made.difference.images == 60
    assert made.difference.learned
    assert made.difference.turned == len(turned) > 0
    assert made.difference.confidence == pytest.approx([float(s.amax(1).mean()) for s in both], abs=1e-6)
    for change, name in zip(made.difference.classes, after.classifier.classes, strict=True):
        place = after.classifier.classes.index(name)
        assert (change.before, change.after) == pytest.approx([c.count(place) / 60 for c in calls])
    assert {turn.key for turn in made.difference.turns} <= {source.keys[i] for i in turned}
    assert len(made.difference.turns) == min(5, len(turned))
    assert sum(images for _, _, images in made.difference.moves) <= len(turned)
    assert made.found is None
    assert f"{len(turned)} of 60 images" in text
    assert "nobody knows how many of the changes are right" in text
    assert "adapted: accuracy" not in text


def test_files_of_an_adapted_net_are_judged_where_it_was_adapted_to(told, tmp_path):
    adapted = told[0] / "adapted"
    net = zoo.load(str(adapted))
    sha256 = json.loads((adapted / "model.json").read_text())["lineage"]["sha256"]
    shutil.copy(told[0] / "student.program", tmp_path / "p.program")
    program = file.load(tmp_path / "p.program")
    lineage_of = {**program.lineage, "sha256": sha256, "tag": f"x{ADAPTED}{told[0].parent / 'there'}"}
    file.save(replace(program, lineage=lineage_of), tmp_path / "p.program")
    here, there = (str(told[0].parent / name) for name in ("here", "there"))
    paths = (str(told[0] / f"student {SCRIPT}"), str(tmp_path / "p.program"))
    for given, data, left in (((*paths, str(adapted)), there, False), (paths, here, True)):
        found = in_order(artefacts.find(list(given))[0])
        every = ask_all(found, artefacts.named(found), Sight(None, None, 50, trust=True), False, silent)
        (one,) = (one.net for one in every if one.net.role == "program")
        assert (one.data, one.left, one.adapted_to) == (data, left, there)
        assert one.of == ("" if left else "adapted")
    assert net.classes == CLASSES
    report(paths[0], paths[1:], out=str(tmp_path / "r.html"), latency=False)
    assert f"not what it was adapted to: {there}" in Parsed((tmp_path / "r.html").read_text()).text


def test_a_recorded_figure_is_called_so_and_counts_for_its_own_weights_alone(tmp_path, capsys):
    """A stranger's run: its images are not at hand, so what it recorded is all that there is."""
    folder = tmp_path / "run"
    lineage = run(folder, "teach", 1, data="gone", model="resnet8")

    def told() -> float | None:
        return report(str(folder), (), out=str(tmp_path / "r.html"), latency=False).nets[0][1]

    assert told() == 0.25
    assert "as its run recorded, not measured now" in Parsed((tmp_path / "r.html").read_text()).text
    results = json.loads((folder / "results.json").read_text())
    for sha256, known in ((lineage.sha256, 0.25), ("0" * 64, None)):
        (folder / "results.json").write_text(json.dumps({**results, "sha256": sha256}))
        assert told() == known
    (folder / "results.json").write_text(json.dumps(results))
    net = zoo.load(str(folder))
    with torch.no_grad():
        for value in net.net.parameters():
            value.fill_(1e30)  # finite, but no logit is
    zoo.save(net, folder)
    assert told() is None


def test_every_tile_names_the_one_net_whose_figure_it_is(told):
    nets = [Net("s", Path("s"), "distilled", "m", 10, 5, 100, "PyTorch", data="d", recorded=0.5, seconds=0.2)]
    nets += [replace(nets[0], name="a", role="adapted", data="t", seconds=0.1)]
    assert [tile.net for tile in tiles(nets, (), ())] == ["s"] * 3
    assert "no exported file" in tiles(nets, (), ())[2].note
    other = replace(nets[0], name="a.c", role="program", of="a", seconds=0.01, engine="C")
    assert (tiles([*nets, other], (), ())[2].net, tiles([*nets, other], (), ())[2].note) == ("a", "exported as a.c")
    for name, of, seconds in (("s.onnx", "s", 0.1), ("s2.onnx", "s", 0.05), ("a.onnx", "a", 0.01)):
        nets.append(replace(nets[0], name=name, role="onnx", of=of, seconds=seconds, engine="onnxruntime"))
    nets.append(replace(nets[0], name="a.program", role="program", of="a", bytes=25, data="t", recorded=0.7))
    nets.append(replace(nets[-1], name="a.c", engine="C", seconds=0.025, same=9))
    design = next(one for one in artefacts.find([str(told[0])])[0] if isinstance(one, artefacts.Design))
    made = tiles(nets, (("a", design),), ())
    assert [tile.net for tile in made] == ["s", "s", "s", "a", "a", "a"]
    latency, integers, in_c = made[2], made[3], made[4]
    assert (latency.value, latency.note) == (words.time(0.05), "exported as s2.onnx")
    assert "4.0 times smaller" in integers.what
    assert (in_c.value, in_c.note) == (words.time(0.025), "4.0 times as fast as a in PyTorch")
    assert "every score the Program's, on 9 images" in in_c.what


def test_adaptations_that_differ_in_their_seed_are_summed_up(told, tmp_path):
    for seed, adapted in enumerate((0.7, 0.8, 0.9)):
        folder = tmp_path / f"a{seed}"
        shutil.copytree(told[0] / "adapted", folder)
        recipe = re.sub(r"(?m)^model = .*", f'model = "elsewhere/{seed}"', (folder / "recipe.toml").read_text())
        (folder / "recipe.toml").write_text(re.sub(r"(?m)^seed = .*\n", "", recipe) + f"seed = {seed}\n")
        results = json.loads((folder / "results.json").read_text())
        results["report"]["adapted"] = adapted
        (folder / "results.json").write_text(json.dumps(results))
    shutil.copytree(tmp_path / "a0", tmp_path / "again")
    shutil.copytree(tmp_path / "a0", tmp_path / "other")
    with (tmp_path / "other/recipe.toml").open("a") as recipe:
        recipe.write("confidence = 0.5\n")
    report(str(tmp_path), out=str(tmp_path / "r.html"), latency=False)
    text = Parsed((tmp_path / "r.html").read_text()).text
    assert "mean ± standard deviation of 3 seeds" in text
    assert text.count("seeds") == 1, "a run of other settings is none of them"
    assert re.search(r"before\s*40\.0.% ± 0\.0", text)
    assert re.search(r"adapted\s*80\.0.% ± 10\.0", text)


def test_an_adapted_net_without_its_origin_says_so(told, tmp_path):
    shutil.copytree(told[0] / "adapted", tmp_path / "adapted")
    recipe = tmp_path / "adapted" / "recipe.toml"
    recipe.write_text(re.sub(r"(?m)^model = .*", 'model = "elsewhere/gone"', recipe.read_text()))
    after, every, sight = asked_of(tmp_path)
    found = adaptation(after, every, sight, 3, 5)
    assert found.missing.startswith("gone, the net before its adaptation, is not at hand")
    assert found.found is None


def test_a_picture_compares_nets_that_saw_the_same_images(told):
    nets = tuple(one.net for one in asked_of(told[0])[1])
    (drawn,) = pictured(nets)
    assert [point.name for point in drawn.size] == [net.name for net in nets if net.role != "adapted"]
    assert drawn.latency == ()
    assert pictured(tuple(net for net in nets if net.role == "adapted")) == ()


def test_teachers_come_first_and_programs_last(told):
    names = [name for name, _ in told[2].nets]
    assert names == ["teacher1", "teacher2", "hard", f"student {SCRIPT}", "adapted", "student.program"]


def test_the_same_runs_make_the_same_page(told, tmp_path):
    made = []
    for name in ("a.html", "b.html"):
        report(str(told[0] / "hard"), (str(told[0] / "design"),), out=str(tmp_path / name), latency=False)
        made.append(re.sub(r"report, \d{4}.*? UTC", "", (tmp_path / name).read_text()))
    assert made[0] == made[1]


def test_only_so_many_images_are_asked_about(told, tmp_path):
    report(str(told[0] / "hard"), out=str(tmp_path / "r.html"), images=7, latency=False)
    assert "of 7 held-out images" in Parsed((tmp_path / "r.html").read_text()).text


def test_a_run_alone_says_what_would_bring_the_rest(told, tmp_path):
    done = report(str(told[0] / "hard"), out=str(tmp_path / "r.html"), latency=False)
    words = Parsed((tmp_path / "r.html").read_text())
    assert done.left_out == (
        "Latency", "Disagreement of teachers", "Adaptation", "Formats and saturation", "Accelerator",
    )  # fmt: skip
    assert "give a design, by limbeck compile" in words.text
    assert not {"teachers", "adaptation", "accelerator"} & set(words.of("id"))
    assert "Accuracy and latency" not in words.text


def test_a_design_alone_has_a_page(told, tmp_path):
    done = report(str(told[0] / "design"), out=str(tmp_path / "r.html"))
    assert done.title == "design, without nets"
    assert {"accelerator", "layers"} <= set(Parsed((tmp_path / "r.html").read_text()).of("id"))


def test_a_run_whose_images_are_gone_shows_what_it_noted_down(told, tmp_path):
    shutil.copytree(told[0] / "hard", tmp_path / "hard")
    recipe = tmp_path / "hard" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(str(told[0].parent / "here"), str(tmp_path / "gone")))
    done = report(str(tmp_path / "hard"), out=str(tmp_path / "r.html"), latency=False)
    assert done.nets == (("hard", 0.25),)
    assert "gone is not there" in done.notes[0]
    found = report(str(tmp_path / "hard"), data=str(told[0].parent / "here"), out=str(tmp_path / "r.html"))
    assert found.nets != (("hard", 0.25),)
    assert found.notes == ()


def test_data_that_lie_far_are_not_opened_because_a_run_names_them():
    assert measured.held_out("hfds/somebody/something", 10) == (
        "hfds/somebody/something was not opened; --data hfds/somebody/something does"
    )


def test_every_command_in_the_page_is_one_that_limbeck_understands(told, capsys):
    found = artefacts.find([str(told[0])])[0]
    made = lineage.commands(found, artefacts.named(found))
    assert len(made) == len(found)
    for command in made:
        arguments = shlex.split(command.line)
        assert arguments[0] == "limbeck"
        code = cli.main([*arguments[1:], "--print-config"])
        assert (code, capsys.readouterr().err) == (0, "")


def test_unfinished_runs_are_left_out_and_named(told, tmp_path):
    shutil.copytree(told[0] / "hard", tmp_path / "runs" / "done")
    (tmp_path / "runs" / "begun").mkdir()
    for name in ("recipe.toml", "environment.json"):
        shutil.copy(told[0] / "hard" / name, tmp_path / "runs" / "begun")
    found, notes = artefacts.find([str(tmp_path / "runs")])
    assert [one.path.name for one in found] == ["done"]
    assert notes[0].startswith(f"{tmp_path / 'runs' / 'begun'} is not finished")
    with pytest.raises(InputError, match="nothing to report yet"):
        artefacts.find([str(tmp_path / "runs" / "begun")])


@pytest.mark.parametrize(("name", "words"), [("absent", "absent is not there"), (".", "holds no run, label store")])
def test_what_is_no_run_is_refused(tmp_path, name, words):
    with pytest.raises(InputError, match=re.escape(words)):
        report(str(tmp_path / name), out=str(tmp_path / "r.html"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results.json", "[1]"),
        ("results.json", "{"),
        ("environment.json", '"x"'),
        ("metrics.jsonl", "not json\n"),
        ("metrics.jsonl", "[" * 100_000),
        ("recipe.toml", "verb = "),
        ("model.json", "3"),
    ],
)
def test_a_broken_file_is_named(told, tmp_path, name, text):
    shutil.copytree(told[0] / "hard", tmp_path / "hard")
    (tmp_path / "hard" / name).write_text(text)
    with pytest.raises(InputError, match=name):
        report(str(tmp_path / "hard"), out=str(tmp_path / "r.html"), latency=False)
    assert not (tmp_path / "r.html").exists()


def test_strange_values_in_a_run_are_as_if_they_were_not_there(told, tmp_path):
    shutil.copytree(told[0] / "adapted", tmp_path / "adapted")
    strange = {"seconds": "<script>", "images": True, "chosen": 7, "report": {"source_only": "x", "recall": [1]}}
    (tmp_path / "adapted" / "results.json").write_text(json.dumps(strange))
    rows = '{"epoch": 1, "loss": NaN}\n{"epoch": 2, "loss": 1e999, "lr": "x"}\n[]\n{"loss": 1}\n'
    (tmp_path / "adapted" / "metrics.jsonl").write_text(rows)
    report(str(tmp_path / "adapted"), out=str(tmp_path / "r.html"), latency=False)
    assert "Kept: not noted" in Parsed((tmp_path / "r.html").read_text()).text


@pytest.mark.parametrize(
    "change", [{"macs": -1}, {"part": "x"}, {"lanes": {"pixels": 1}}, {"cycles": 3}, {"ops": True}]
)
def test_a_broken_design_is_named(told, tmp_path, change):
    shutil.copytree(told[0] / "design", tmp_path / "design")
    manifest = tmp_path / "design" / "design.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(InputError, match=r"design|part x"):
        artefacts.find([str(tmp_path / "design")])


def test_cycles_by_layer_sum_to_the_interval(told):
    (design,) = artefacts.find([str(told[0] / "design")])[0]
    rows = accelerator.passes(design)
    assert sum(row.cycles for row in rows) == design.cycles.interval
    assert sum(row.macs for row in rows) == design.macs
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_saturation_is_that_of_the_noise_report(told):
    program = file.load(told[0] / "student.program")
    net = zoo.load(str(told[0] / f"student {SCRIPT}")).eval()
    images = open_source(str(told[0].parent / "here"), "val").pixels
    theirs = {layer.path: layer for layer in noise(net, program, images)}
    ours = {row.path: row for row in layers.rows(program, images.numpy())}
    for path, layer in theirs.items():
        assert ours[path].saturated == layer.saturated
        assert ours[path].formats == layer.formats.replace("->", "→")
        assert ours[path].accumulator_bits == layer.accumulator_bits


@pytest.mark.parametrize(("right", "images"), [(0, 5), (3, 7), (480, 500), (500, 500)])
def test_the_interval_is_scipys(right, images):
    theirs = binomtest(right, images).proportion_ci(method="wilson")
    assert wilson(right / images, images) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_the_projection_is_scikit_learns(told):
    net = zoo.load(str(told[0] / "hard")).eval()
    here, there = (open_source(str(told[0].parent / name), "val") for name in ("here", "there"))
    found = measured.cloud(net, here, there)
    with torch.no_grad():
        every = torch.cat([TwoDomains(net)(each.pixels)[0] for each in (here, there)]).double().numpy()
    theirs = PCA(2).fit(every)
    ours = np.array([*found.source, *found.target])
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs.transform(every)), atol=1e-4)
    assert found.kept == pytest.approx(theirs.explained_variance_ratio_.sum(), abs=1e-6)
    assert len(found.source) == len(found.target) == len(CLASSES) * IMAGES


def answers(*rows: tuple[float, float, float], labels=(0, 1, 2, 0)) -> Answers:
    return Answers(torch.tensor(rows), torch.tensor(labels))


def test_the_surest_mistakes_come_first(told):
    source = evenly(open_source(str(told[0].parent / "here"), "val"), 4)
    said = answers((9, 0, 0), (5, 0, 0), (0, 0, 1), (0, 6, 0))
    found = measured.worst(said, source, 10)
    assert [(m.key, m.true, m.said) for m in found] == [
        (source.keys[3], CLASSES[0], CLASSES[1]),
        (source.keys[1], CLASSES[1], CLASSES[0]),
    ]
    assert len(measured.worst(said, source, 1)) == 1


def test_teachers_differ_where_their_answers_do(told):
    source = evenly(open_source(str(told[0].parent / "here"), "val"), 4)
    said = [answers((9, 0, 0), (0, 9, 0), (0, 0, 9), (9, 0, 0)), answers((9, 0, 0), (0, 9, 0), (0, 5, 0), (0, 1, 0))]
    found = measured.disagreement(["one", "other"], said, measured.Seen(source, 4), 8)
    assert (found.images, found.differ, found.pairs) == (4, 2, (("one", "other", 0.5),))
    assert [split.key for split in found.splits] == [source.keys[2], source.keys[3]]
    assert source.labels.tolist() == [0, 0, 1, 2]
    assert dict(found.right) == {"one": 0.0, "other": 0.5, "their average": 0.0}


def test_torch_has_its_threads_back():
    torch.set_num_threads(2)
    try:
        with measured.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_two_runs_of_one_name_are_told_apart(tmp_path):
    here = photos(tmp_path / "here", 0)
    for seed, place in enumerate(("a", "b"), start=1):
        run(tmp_path / place / "s", "teach", seed, data=str(here), model="resnet8")
    out = tmp_path / "r.html"
    done = report(str(tmp_path / "a" / "s"), (str(tmp_path / "b"),), out=str(out), latency=False)
    assert [name for name, _ in done.nets] == ["a/s", "b/s"]
    assert done.title == "2 nets compared"
    assert re.search(
        r"2 nets classify from \S+ % \(\S+\) to \S+ % \(\S+\) of 60 held-out", Parsed(out.read_text()).text
    )


@pytest.mark.parametrize(("out", "words"), [("/proc/none/r.html", "can't be written"), ("", "name a file")])
def test_a_page_that_cannot_be_written_is_told_before_anything_is_asked(told, tmp_path, out, words):
    with pytest.raises(InputError, match=words):
        report(str(told[0]), out=out or str(tmp_path), tell=lambda *_: pytest.fail("asked"))
