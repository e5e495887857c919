"""The source distribution and the wheel hold all that the source tree's package holds, and the wheel works alone."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def tracked() -> list[str]:
    """Return the project's files, as git knows them."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so nobody knows which files are the project's")
    said = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in said.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the source distribution and the wheel that was built from it, of the files that git knows."""
    place = tmp_path_factory.mktemp("built")
    for name in tracked():
        (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, place / "source" / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place / "dist"), str(place / "source")]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = (place / "dist").glob("*.tar.gz"), (place / "dist").glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == {name for name in tracked() if name.startswith("limbeck/")}


def test_the_source_distribution_holds_the_project(built):
    with tarfile.open(built[0]) as sdist:
        inside = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    assert set(tracked()) - {".gitignore"} <= inside


def test_the_wheel_says_what_it_is(built):
    with zipfile.ZipFile(built[1]) as wheel:
        info = next(name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
        said = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
        scripts = wheel.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in wheel.namelist()
    import limbeck

    assert (said["Name"], said["Version"]) == ("limbeck", limbeck.__version__)
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload().startswith("# Limbeck")
    assert "limbeck = limbeck.cli:main" in scripts


PHOTO_TO_CHIP = """
import limbeck
assert limbeck.__file__.startswith({site!r})
learn = limbeck.Training(epochs=1, limit=128)
limbeck.teach(data="digits:mnist", model="resnet8", arguments=("width=4",), out="run", training=learn)
limbeck.quantize("run", data="digits:mnist", out="run.program")
limbeck.compile("run.program", out="design")
"""


def test_the_unpacked_wheel_goes_from_digits_to_a_chip_in_an_empty_folder(built, tmp_path):
    """Digits, RTL and templates are found where the wheel has them: the source tree is not in reach."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    with zipfile.ZipFile(built[1]) as wheel:
        wheel.extractall(site)
    empty.mkdir()
    code, path = PHOTO_TO_CHIP.format(site=str(site)), {**os.environ, "PYTHONPATH": str(site), "HOME": str(empty)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, env=path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (site / "limbeck/fpga/rtl").iterdir()} <= {p.name for p in (empty / "design/rtl").iterdir()}
