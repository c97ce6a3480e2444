import asyncio
from pathlib import Path

import pytest

from sandbox import binaries
from sandbox.binaries import TOOLS, GoTool
from sandbox.errors import SandboxError

REGISTRY = next(tool for tool in TOOLS if tool.name == "registry")


async def build(tool: GoTool) -> list[str]:
    lines: list[str] = []
    await binaries._build_once(tool, lines.append)
    return lines


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def test_two_builders_at_once_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_CACHE", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    first, second = await asyncio.gather(build(REGISTRY), build(REGISTRY))
    lines = first + second
    assert len([line for line in lines if line.startswith("built registry")]) == 1
    assert len([line for line in lines if line.startswith("waiting for another build")]) == 1


async def test_what_kubebuilder_assets_holds_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etcd").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("OUTLAST_CACHE", str(tmp_path / "cache"))
    assert (await binaries.ensure(parts=())).etcd == tmp_path / "etcd"


async def test_what_no_part_needs_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_CACHE", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    found = await binaries.ensure(parts=("temporal", "gce"))
    assert files(tmp_path) == []
    assert found.temporal.is_file()


async def test_a_failed_build_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_CACHE", str(tmp_path))
    wrong = GoTool("registry", "wrong", "registry", "github.com/google/go-containerregistry/cmd/nothing", "1 s")
    with pytest.raises(SandboxError, match=r"(?s)building wrong failed:.*cmd/nothing.*GOPROXY"):
        await build(wrong)
    assert files(tmp_path) == [tmp_path / "build.lock"]


async def test_an_old_go_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "go"
    old.write_text("#!/bin/sh\necho go1.21.4\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    go = await binaries.find_go(Path(binaries.__file__).parent / "kubernetes" / "go.mod")
    assert go != str(old)


def test_an_executable_that_is_nowhere_is_named_with_the_remedy() -> None:
    with pytest.raises(SandboxError, match="pip install no-such-package"):
        binaries.installed("no-such-executable", "no-such-package")
