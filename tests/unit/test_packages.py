"""Every image, the wheel and the checks contain the same packages, but for the command line, which no image needs."""

import re
import tomllib
from pathlib import Path

from sandbox.machines.real import images

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
SHIPPED = PROJECT["hatch"]["build"]["targets"]["wheel"]["packages"]
IN_IMAGES = [package for package in SHIPPED if package != "cli"]


def test_the_image_contains_what_the_wheel_contains() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE) == IN_IMAGES
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert [line[1:] for line in ignored if line.startswith("!")] == [*IN_IMAGES, "deploy/requirements.lock"]
    assert f"compileall -q {' '.join(IN_IMAGES)}\n" in dockerfile


def test_the_sandboxs_own_image_contains_it_too() -> None:
    assert list(images._PACKAGES) == IN_IMAGES


def test_all_of_it_is_checked() -> None:
    assert PROJECT["mypy"]["packages"] == [*SHIPPED, "sandbox", "release"]
    assert sorted(PROJECT["importlinter"]["root_packages"]) == sorted([*SHIPPED, "sandbox", "release"])
