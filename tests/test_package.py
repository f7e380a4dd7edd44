from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import itmkit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(itmkit.__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs a checkout")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """{file: size} of a wheel built from a copy of the checkout, without network."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("build")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "itmkit", folder / "itmkit", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; build_meta.build_wheel('out')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    (built,) = (folder / "out").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def test_the_wheel_holds_everything_that_git_has(wheel: dict[str, int]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "itmkit"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("needs a git checkout")
    assert [name for name in listed if name not in wheel] == []


def test_weights_recipes_and_licences_are_in_the_wheel(wheel: dict[str, int]) -> None:
    for ending in (
        "itmkit/py.typed",
        "itmkit/parse_text/weights/parser/parser.safetensors",
        "itmkit/parse_text/weights/parser/parser.json",
        "itmkit/parse_text/weights/parser/NOTICE.md",
        "licenses/LICENSE",
        "licenses/itmkit/parse_text/weights/parser/NOTICE.md",
    ):
        assert any(name.endswith(ending) for name in wheel), ending
    for folder in ("itmkit/regions/weights/", "itmkit/parse_text/weights/"):
        size = sum(size for name, size in wheel.items() if name.startswith(folder))
        assert 100_000 < size < 12_000_000, f"{folder}: {size:,} bytes"
    assert any(re.fullmatch(r"itmkit/methods/recipes/[a-z]+/[a-z]+\.toml", name) for name in wheel)
    assert not any("__pycache__" in name or name.startswith("tests/") for name in wheel)


def test_every_file_that_is_no_code_is_named_as_data() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        data = tomllib.load(file)["tool"]["setuptools"]["package-data"]["itmkit"]
    package = ROOT / "itmkit"
    named = {path for pattern in data for path in package.glob(pattern)}
    others = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert len(others) > 20 and sorted(others - named) == []


def test_every_direct_requirement_has_a_tested_version_within_its_range() -> None:
    tested = {
        requirement.name.lower(): requirement
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
        if (requirement := Requirement(line)).marker is None or requirement.marker.evaluate()
    }
    for requirement in map(Requirement, requires("itmkit") or []):
        if requirement.name == "itmkit" or (requirement.marker and not requirement.marker.evaluate({"extra": "test"})):
            continue
        (pinned,) = tested[requirement.name.lower()].specifier
        assert requirement.specifier.contains(pinned.version), requirement
