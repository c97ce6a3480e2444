"""Helm takes over, upgrades and removes an installation while a job trains, as the pages say."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from release.chart import CHART, NAMESPACE
from tests.e2e.alone.pages import PAGE, environment_of, follow, left, no_vm, steps
from tests.e2e.conftest import ENVIRONMENT, SPEED
from tests.e2e.rig import REPOSITORY, Rig, why_not
from tests.install.helm import Helm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

Json = dict[str, Any]

VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
NEXT = "99.0.0"
# In this sandbox worker and bridge are processes, so no pod of theirs ever runs, and no hook could end.
WITHOUT_PODS = ("--namespace", NAMESPACE, "--no-hooks")


def next_release(directory: Path) -> Path:
    """Write the chart of a release with another worker and one more field in a CRD."""
    chart = directory / "outlast"
    shutil.copytree(CHART, chart)
    for file in chart.rglob("*.yaml"):
        file.write_text(file.read_text().replace(VERSION, NEXT))
    crd = chart / "templates" / "crd-spotinstancejobs.yaml"
    changed = yaml.safe_load(crd.read_text())
    spec = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["fieldOfTheNextRelease"] = {"type": "string"}
    crd.write_text(yaml.safe_dump(changed))
    return chart


@pytest_asyncio.fixture(loop_scope="session")
async def rig(executables: Any, tmp_path: Path) -> AsyncIterator[Rig]:
    """Bring up a cloud that nobody needs afterwards."""
    if reason := why_not():
        pytest.skip(reason)
    made = Rig(tmp_path / "cloud", SPEED, ENVIRONMENT)
    await made.up()
    yield made
    await made.down()


@pytest_asyncio.fixture(loop_scope="session")
async def helm_here(helm: Helm, rig: Rig) -> Helm:
    """Return what runs helm as the administrator of the rig's cluster."""

    async def run(*arguments: str | Path) -> str:
        return await helm(*arguments, KUBECONFIG=str(rig.settings.admin_kubeconfig))

    return run


async def workers(rig: Rig) -> set[str]:
    names = "jsonpath={.items[*].metadata.name}"
    where = ("--namespace", NAMESPACE, "--selector", "app.kubernetes.io/component=worker")
    return set((await rig.kubectl("get", "deployments", *where, "-o", names)).split())


async def has_field(rig: Rig) -> bool:
    path = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.fieldOfTheNextRelease.type}"
    crd = "customresourcedefinition/spotinstancejobs.training.training.dcnlab.com"
    return bool(await rig.kubectl("get", crd, "-o", path))


@pytest.mark.asyncio(loop_scope="session")
async def test_a_training_outlasts_what_helm_does(rig: Rig, helm_here: Helm, tmp_path: Path) -> None:
    job = await rig.start(await rig.namespace(), rig.job(replicas=1, interval="10s"))
    await job.checkpointed()
    trained = job.training(0)

    # What kubectl installed goes over to Helm.
    await helm_here("install", "outlast", CHART, *WITHOUT_PODS, "--take-ownership", "--force-conflicts")
    assert await workers(rig) == {f"outlast-worker-{VERSION}"}

    upgrade = ("upgrade", "--force-conflicts", "outlast", *WITHOUT_PODS)
    await helm_here(*upgrade, CHART, "--set", "settings.OUTLAST_ACTIVITIES=50")
    settings = json.loads(await rig.kubectl("get", "configmap/outlast-settings", "-n", NAMESPACE, "-o", "json"))["data"]
    assert settings["OUTLAST_ACTIVITIES"] == "50"

    # The next release brings its CRDs, and leaves the worker of this one.
    await helm_here(*upgrade, next_release(tmp_path), "--reset-then-reuse-values")
    assert await has_field(rig)
    assert await workers(rig) == {f"outlast-worker-{VERSION}", f"outlast-worker-{NEXT}"}

    assert job.training(0) == trained, "it trained on meanwhile"
    await job.preempt(0)
    await job.trains(0, but=(trained,), seconds=180)
    assert job.training(0).first, "from its checkpoint, with Helm's rights and policies"

    # By accident, and back.
    trained = job.training(0)
    await helm_here("uninstall", "outlast", *WITHOUT_PODS)
    assert job.object is not None
    assert await has_field(rig)
    await helm_here("install", "outlast", next_release(tmp_path / "again"), *WITHOUT_PODS)
    assert job.training(0) == trained

    # For good, as the page says.
    environment = environment_of(rig, tmp_path / "bin")
    uninstall, *others = of_helm()
    await follow(rig, steps()[:-1], environment)
    await helm_here(*uninstall.split()[1:], "--no-hooks")
    await follow(rig, others, environment)
    await no_vm(rig)
    assert await left(environment) == []


def of_helm() -> list[str]:
    """Read the commands that remove what Helm installed."""
    section = PAGE.read_text().partition("## With Helm")[2].partition("\n## ")[0]
    return [line.removeprefix("$ ") for line in section.splitlines() if line.startswith("$ ")]


def test_the_page_removes_the_crds_of_this_release() -> None:
    names = sorted(yaml.safe_load(file.read_text())["metadata"]["name"] for file in crds())
    (command,) = [each for each in of_helm() if "delete customresourcedefinitions" in each]
    assert sorted(word for word in command.split() if word.endswith(".dcnlab.com")) == names


def crds() -> list[Path]:
    return sorted((REPOSITORY / "deploy" / "crd").glob("*.yaml"))
