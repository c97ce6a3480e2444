"""What docs/tenants.md says of people's roles: its commands, run in their order."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from sandbox.errors import SandboxError
from tests.bridge.conftest import REPOSITORY
from tests.bridge.recorder import eventually

PAGE = REPOSITORY / "docs" / "tenants.md"


class Command(NamedTuple):
    """A command for kubectl, and its output if the page shows that."""

    arguments: list[str]
    says: str


def commands() -> Iterator[Command]:
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for told in re.split(r"^\$ kubectl ", block, flags=re.MULTILINE)[1:]:
            line, _, says = told.partition("\n")
            yield Command(line.split(), says.strip())


@pytest.fixture
async def tidy(control_plane: Any, installed: None) -> AsyncIterator[None]:
    yield
    await control_plane.kubectl("label", "clusterrole", "outlast-vm-editor", f"{AGGREGATE}-")


AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-edit"


async def test_the_pages_commands_do_what_it_says(control_plane: Any, tidy: None) -> None:
    """The API server's own controller adds roles to others, and its authorizer hears of that, within moments."""

    async def answers(command: Command) -> bool:
        try:
            said = str(await control_plane.kubectl(*command.arguments)).strip()
        except SandboxError as error:  # as kubectl says no
            said = "no" if "can-i" in command.arguments else str(error)
        return not command.says or said == command.says

    found = list(commands())
    assert {command.says for command in found} == {"", "yes", "no"}
    for command in found:
        if command.says:
            await eventually(lambda asked=command: answers(asked), " ".join(command.arguments))  # type: ignore[misc]
        else:
            await control_plane.kubectl(*command.arguments)


@pytest.mark.parametrize("role", ["view", "edit", "admin", "outlast-vm-editor"])
async def test_nobody_but_outlast_writes_a_status(control_plane: Any, installed: None, role: str) -> None:
    """It does not matter what they may do in a namespace. Administrators of the cluster may do everything."""

    async def verbs(resource: str) -> set[str]:
        found = yaml.safe_load(await control_plane.kubectl("get", "clusterrole", role, "-o", "yaml"))
        rules = [rule for rule in found["rules"] or [] if resource in rule.get("resources", [])]
        return {verb for rule in rules for verb in rule["verbs"]}

    await eventually(lambda: verbs("spotinstancevms"), f"Outlast's roles are part of {role}")
    for resource in ("spotinstancejobs/status", "spotinstancevms/status", "instancetemplates/status"):
        assert await verbs(resource) <= {"get", "list", "watch"}
