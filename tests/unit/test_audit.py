"""The audit of dependencies fails if it cannot vouch for one."""

from pathlib import Path

import pytest

from tests import audit

HASH = "--hash=sha256:" + "0" * 64
GOOD = "\n".join(
    [
        "# made by a tool",
        f"a==1.0 \\\n    {HASH} \\\n    {HASH}",
        "    # via b",
        f"b==2 ; sys_platform == 'win32' \\\n    {HASH}\n",
    ]
)


def test_a_lock_that_pins_everything_passes() -> None:
    assert list(audit.unpinned("lock", GOOD)) == []
    assert audit.pins(GOOD) == {"a": "1.0", "b": "2"}


@pytest.mark.parametrize(
    "line",
    [
        "c==1.0",
        f"c>=1.0 {HASH}",
        f"c @ https://elsewhere.example/c.whl {HASH}",
        "-e .",
        "--extra-index-url https://elsewhere.example/simple",
        "git+https://elsewhere.example/c",
        f"c==1.0 {HASH[:-1]}",
        "c==1.0 --hash=md5:00",
    ],
)
def test_anything_else_is_refused(line: str) -> None:
    assert len(list(audit.unpinned("lock", GOOD + line + "\n"))) == 1


@pytest.mark.parametrize(("wanted", "refused"), [("a>=1", 0), ("A[x]>=1", 0), ("a>=2", 1), ("c", 1)])
def test_a_direct_dependency_has_to_be_in_the_lock(wanted: str, refused: int) -> None:
    assert len(list(audit.unsatisfied([wanted], {"a": "1.0"}))) == refused


def test_what_is_installed_in_another_version_is_refused() -> None:
    installed = {"a": "1.0", "B_c": "2", "pip": "25", "stray": "1"}
    assert [problem.split()[0] for problem in audit.foreign(installed, {"a": "1.1", "b-c": "2"})] == ["a"]


def test_a_licence_that_nobody_looked_at_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, refused in [
        ("MIT", 0), ("Apache-2.0 AND MIT", 0), ("EPL-2.0 OR GPL-3.0-only", 0), ("MIT AND GPL-3.0-only", 1),
        ("", 1), ("Own", 1),
    ]:  # fmt: skip
        monkeypatch.setattr(audit.metadata, "metadata", lambda name, told=told: _Said(told))
        assert len(list(audit.licence_problems("x"))) == refused, told


class _Said(dict[str, str]):
    def __init__(self, told: str) -> None:
        super().__init__({"License-Expression": told})

    def get_all(self, _: str) -> None:
        return None


def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(audit.shutil, "which", lambda name, path: str(program))


def test_vulnerabilities_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}, {"name": "b", "version": "2"}]}'
    tool(tmp_path, monkeypatch, f"echo '{found}'; exit 1")
    assert audit.advisories() == ["a 1: X-1"]


def test_nobody_to_ask_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool(tmp_path, monkeypatch, "echo no network >&2; exit 1")
    assert audit.advisories() == []
    monkeypatch.setattr(audit.shutil, "which", lambda name, path: None)
    assert audit.advisories() == []
    assert capsys.readouterr().out.count("NOT looked up") == 2
