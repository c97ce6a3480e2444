"""The permissions on GCP that docs list are those that the cloud demands: no more, no less."""

import inspect
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.exceptions import ApplicationError

from activities.compute import Compute
from api.market import Candidate
from tests.activities.compute_setting import ZONE, Setting, compact_vm, create_vm, setting

__all__ = ["setting"]

ROOT = Path(__file__).parents[2]
# In no role, because nobody has seen that IAM knows it. A role with an unknown permission is refused.
UNSURE = {"compute.advice.capacityHistory"}


def listed() -> set[str]:
    """Read the first column of the table of docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text()
    return set(re.findall(r"^\| `((?:compute|iam)\.[a-zA-Z.]+)` \|", text, re.MULTILINE))


class Counted:
    """A cloud that counts its calls."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self.called = set[str]()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self._compute, name)


async def test_what_is_listed_is_what_the_cloud_asks_for(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each method is called once, with a VM that has all that a spec can ask for."""
    asked = set[str]()
    monkeypatch.setattr(setting.gce.faults, "check_permission", lambda permission, path: asked.add(permission))
    compute = Counted(await setting.cloud.open(None, "default"))
    monkeypatch.setattr(setting.cloud, "open", _gives(compute))
    gcp = {"project": "demo", "zone": ZONE, "machineType": "n1-standard-4", "externalIP": True}
    gcp |= {"networkTags": ["train"], "serviceAccount": "trainer@demo.iam.gserviceaccount.com"}
    create = create_vm(gcp=gcp)
    assert (await setting.created(create)).vm.status == "RUNNING"
    vm, candidate = create.vm, Candidate(zone=ZONE, machine_type="n1-standard-4", gpu=create.spec.gpu)
    await compute.labelled("demo", "outlast-cluster", "c1")
    await compute.host_keys("demo", ZONE, vm.name)
    await compute.preempted("demo", ZONE, datetime.now(UTC))
    await compute.spot_price("demo", candidate)
    await compute.missing_permissions("demo", ["compute.instances.get"])
    await compute.login("demo", "ssh-ed25519 AAAA")
    await compute.machine_type("demo", ZONE, "n1-standard-4")
    await compute.quotas("demo", "us-central1")
    await compute.quotas("demo", None)
    await compute.exists("zone", "demo", ZONE, ZONE)
    await compute.exists("accelerator", "demo", ZONE, "nvidia-tesla-t4")
    for image in ("family/ubuntu-2404-lts-amd64", "ubuntu-2404"):
        await compute.exists("image", "demo", ZONE, f"projects/ubuntu-os-cloud/global/images/{image}")
    await setting.gone(vm)
    near = compact_vm()
    await setting.created(near)
    await setting.gone(near.vm)
    await compute.placements("demo", "nobody")
    assert compute.called == {name for name, _ in inspect.getmembers(Compute, inspect.isfunction) if name[0] != "_"}
    assert asked == listed()


def test_the_role_has_what_is_listed() -> None:
    role = yaml.safe_load((ROOT / "deploy" / "gcp" / "role.yaml").read_text())
    assert role["includedPermissions"] == sorted(listed() - UNSURE)


async def test_a_creation_is_refused_for_each_thing_that_the_vm_is_made_of(setting: Setting) -> None:
    """So a role that lacks one of them fails here, too."""
    setting.gce.faults.withdraw_permissions("compute.subnetworks.use")
    with pytest.raises(ApplicationError, match=r"compute\.subnetworks\.use"):
        await setting.run(setting.activities.create_vm, create_vm())


def _gives(compute: Counted) -> Any:
    async def open_(*_: Any) -> Counted:
        return compute

    return open_
