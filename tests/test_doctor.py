"""limbeck doctor: what it says of packages and tools is so; it ends with 3 where the base install is broken."""

import importlib
import json
import shutil
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from limbeck import cli
from limbeck.deploy import installation

REQUIRES = [
    "torch>=2", "rich>=999", "absent-package", 'tyro; python_version < "3"', 'onnx>=1; extra == "export"',
    'gone>=1; extra == "export"', 'limbeck[export,ode]; extra == "dev"', 'tyro; extra == "ode"', 'rich; extra == "dev"',
]  # fmt: skip


@pytest.fixture
def required(monkeypatch):
    monkeypatch.setattr(installation.metadata, "requires", lambda _: REQUIRES)


def by_name(findings):
    return {one.name: one for one in findings}


def test_base_packages_are_judged_by_the_packages_own_metadata(required):
    found = by_name(installation._base())
    assert found["torch"].found == metadata.version("torch")
    assert not found["torch"].broken
    assert found["rich"].found == f"is {metadata.version('rich')}, needs >=999"
    assert found["rich"].remedy == "pip install 'rich>=999'"
    assert found["absent-package"].found == "is missing"
    assert found["rich"].broken
    assert found["absent-package"].broken
    assert not {"tyro", "onnx", "gone"} & set(found)  # for another Python; of an extra


def test_an_extra_that_is_not_whole_has_the_command_that_brings_it(required):
    found = installation._extra("export")
    assert (found.found, found.remedy, found.broken) == ("gone is missing", "pip install 'limbeck[export]'", False)
    assert installation._extra("ode") == installation.Finding("extras", "ode", "tyro")


def test_an_extra_brings_those_that_it_names(required):
    assert [one.name for one in installation._of_extra("dev", set())] == ["onnx", "gone", "tyro", "rich"]


def test_a_package_that_cannot_be_imported_is_broken(monkeypatch):
    def fails(name: str) -> None:
        raise OSError(f"{name}: undefined symbol")

    monkeypatch.setattr(importlib, "import_module", fails)
    found = installation._required(Requirement("torch>=2"))
    assert found.broken
    assert "can't be imported (torch: undefined symbol)" in found.found


def test_a_missing_tool_has_its_use_and_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = by_name(installation._tools())
    assert found["verilator"].found == "is missing; for simulate, bench, demo"
    assert found["verilator"].remedy == "apt-get install verilator"
    assert not any(one.broken for one in found.values())


def test_a_tool_says_its_version(monkeypatch, tmp_path):
    tool = tmp_path / "yosys"
    tool.write_text("#!/bin/sh\necho 'Yosys 0.23 (git sha1 7ce5011c24b)'\n")
    tool.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tool) if name == "yosys" else None)
    assert by_name(installation._tools())["yosys"].found == "0.23; for compile --synth"


def test_a_place_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(installation.os, "access", lambda *_: False)
    found = installation._place("hub", tmp_path / "a" / "b")
    assert found.remedy == f"make {tmp_path} writable"


def test_the_built_in_digits_are_found():
    found = by_name(installation._data())["built in"]
    assert found.found == "digits:mfeat, digits:mnist, digits:optdigits"
    assert not found.broken


@pytest.mark.parametrize("broken", [False, True])
def test_the_exit_code_is_3_where_something_is_broken_and_all_is_shown(capsys, monkeypatch, broken):
    findings = [installation.Finding("versions", "torch", "is missing", "pip install 'torch>=2'", broken=broken)]
    monkeypatch.setattr(installation, "_base", lambda: findings)
    for name in ("_machine", "_extras", "_tools", "_places", "_data"):
        monkeypatch.setattr(installation, name, list)
    assert cli.main(["doctor"]) == (3 if broken else 0)
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1].removeprefix("--result "))["findings"][0]["name"] == "torch"
    assert ("limbeck doctor: torch: is missing; pip install 'torch>=2'" in err) == broken


def test_this_installation_is_sound():
    assert installation.diagnose().failure == ""
