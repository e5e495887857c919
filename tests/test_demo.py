"""The demo: the whole story, shortened; a second telling does nothing again."""

import json
from dataclasses import replace

import pytest

from limbeck.artefacts import readers as artefacts
from limbeck.c.running import compiler
from limbeck.fpga.simulate import available
from limbeck.page import lineage
from limbeck.verbs import demo as story

pytestmark = pytest.mark.slow


@pytest.fixture
def told(monkeypatch):
    """Return what the demo tells; its trainings are an epoch of 256 digits."""
    notes = []
    monkeypatch.setattr(story, "LEARNING", replace(story.LEARNING, epochs=1, limit=256))
    monkeypatch.setattr(story, "ADAPTING", replace(story.ADAPTING, epochs=1, limit=256))
    monkeypatch.setattr(story, "IMAGES", 2)
    monkeypatch.setattr(story, "LABELLING", replace(story.LABELLING, limit=256))
    real_replace = story.replace
    monkeypatch.setattr(story, "replace", lambda learning, **new: real_replace(learning, **{**new, "epochs": 1}))
    return notes


def test_the_whole_story_is_told_and_not_done_twice(told, tmp_path):
    def tell(event: str, values: dict) -> None:
        if event in {"note", "epoch"}:
            told.append(values)

    first = story.demo(out=str(tmp_path / "demo"), tell=tell)
    assert [s.model for s in first.stages] == ["resnet20", "resnet14", "dsodenet20", "dsodenet20"]
    assert first.adapted.target == story.FIELD
    assert first.adapted.report.images == 300
    assert first.integers.model == first.adapted.out
    assert first.integers.agreement > 0.5
    assert (first.hardware is None) == bool(available())
    assert first.hardware is None or first.hardware.scores == 20
    assert (first.in_c is None) == (compiler() is None)
    assert first.in_c is None or 0 < first.in_c.milliseconds < first.in_c.float_milliseconds
    json.dumps(first.to_json())
    assert first.rows()[-1] == ("report", str(tmp_path / "demo" / "report.html"))
    assert "dsodenet20" in (tmp_path / "demo" / "report.html").read_text()
    told_costs_and_flags(tmp_path / "demo")
    assert len(first.rows()) == 4 + 2 + (first.in_c is not None) + (first.hardware is not None) + 2
    trained = [values for values in told if "epoch" in values]
    assert len(trained) == 5
    told.clear()
    again = story.demo(out=str(tmp_path / "demo"), tell=tell)
    assert not [values for values in told if "epoch" in values]
    assert again.adapted.report == first.adapted.report
    assert again.integers.top1 == first.integers.top1


def told_costs_and_flags(folder):
    """Check that a store says what it cost, and a Program how it was made, for the report."""
    found = artefacts.find([str(folder)])[0]
    called = artefacts.named(found)
    costs = {cost.what.partition(",")[0]: cost.seconds for cost in lineage.costs(found, called)}
    assert costs["label"] > 0
    again = {made.name: made for made in lineage.commands(found, called)}
    program = next(name for path, name in called.items() if path.suffix == ".program")
    assert "--bits 8 --calibration 512" in again[program].line
    assert not again[program].note
