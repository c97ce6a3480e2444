"""What the worker says of its own surroundings, with each fault made real."""

import socket
from pathlib import Path
from typing import Any

import pytest

from activities import signatures as act
from activities.diagnosis import activities as diagnosis
from activities.diagnosis.activities import DiagnosisActivities
from activities.diagnosis.quota import gpu_metric, lack_of_room
from activities.diagnosis.rights import NEEDED, check_rights
from activities.join.ssh import SshKeys
from activities.join.tokens import cluster_info
from api.diagnosis import Finding
from api.market import Candidate
from api.spot_instance_vm import Gpu
from clients.kube import Kube, connect
from tests.activities.compute_setting import ZONE, Setting, create_vm, setting
from tests.activities.rights import ROLES, granted
from tests.activities.world import run

__all__ = ["setting"]
SPOT = Candidate(zone=ZONE, machine_type="n1-standard-4", gpu=Gpu(type="nvidia-tesla-t4"))


async def diagnosed(kube: Kube, setting: Setting, key: Path, *vms: act.DiagnosedVm) -> dict[str, Finding]:
    told = DiagnosisActivities(kube, setting.cloud, SshKeys(kube, key))
    return {each.part: each for each in (await run(told.diagnose, act.Diagnose(vms=list(vms)))).findings}


def vm(**spec: Any) -> act.DiagnosedVm:
    return act.DiagnosedVm(namespace="default", name="t4", spec=create_vm(**spec).spec, candidates=[SPOT])


async def test_all_is_well_where_nothing_is_wrong(kube: Kube, setting: Setting, tmp_path: Path) -> None:
    setting.gce.faults.set_quota("PREEMPTIBLE_NVIDIA_T4_GPUS", 4, "us-central1")
    found = await diagnosed(kube, setting, tmp_path / "id_ed25519", vm())
    assert {part: each.well for part, each in found.items()} == {
        "the worker's rights": True, "join endpoint": True, "SSH key of default/t4": True, "quota for default/t4": True,
    }  # fmt: skip
    assert "SHA256:" in found["SSH key of default/t4"].told


async def test_a_quota_without_room_is_named(kube: Kube, setting: Setting, tmp_path: Path) -> None:
    setting.gce.faults.set_quota("GPUS_ALL_REGIONS", 0)
    found = (await diagnosed(kube, setting, tmp_path / "id_ed25519", vm()))["quota for default/t4"]
    assert (found.well, found.told) == (False, "GPUS_ALL_REGIONS: 0 of 0 are in use, and a VM needs 1")
    setting.gce.faults.withdraw_permissions("compute.regions.get")
    found = (await diagnosed(kube, setting, tmp_path / "id_ed25519", vm()))["quota for default/t4"]
    assert found.well
    assert found.told.startswith("not known: compute.regions.get")


async def test_a_key_that_is_missing_is_named(kube: Kube, setting: Setting, tmp_path: Path) -> None:
    found = await diagnosed(kube, setting, tmp_path / "none")
    assert not found["SSH key"].well
    assert "OUTLAST_SSH_KEY_FILE" in found["SSH key"].told
    found = await diagnosed(kube, setting, tmp_path / "id_ed25519", vm(sshKeySecretRef={"name": "nobodys"}))
    assert not found["SSH key of default/t4"].well
    assert "nobodys" in found["SSH key of default/t4"].told


async def test_an_endpoint_at_which_nobody_can_join_is_named(
    kube: Kube, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, ca = await cluster_info(kube)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"https://127.0.0.1:{taken.getsockname()[1]}"

    async def published(_: Kube) -> tuple[str, str]:
        return nobody, ca

    monkeypatch.setattr(diagnosis, "cluster_info", published)
    found = (await diagnosed(kube, setting, tmp_path / "id_ed25519"))["join endpoint"]
    assert not found.well
    assert nobody in found.told
    assert server != nobody


async def test_a_right_that_is_missing_is_named(control_plane: Any, namespace: str, tmp_path: Path) -> None:
    file = await control_plane.account("default", namespace, tmp_path / "kubeconfig")
    async with await connect(str(file)) as nobody:
        found = await check_rights(nobody)
    assert not found.well
    assert "approval" in found.told
    assert "delete nodes" in found.told


def test_the_rights_that_are_asked_for_are_those_of_the_role() -> None:
    named = {"customresourcedefinitions", "namespaces", "signers", "secrets", "leases"}  # some objects, or elsewhere
    in_role = {(right.group, right.resource, right.verb) for right in granted() if right.resource not in named}
    dry_run = ("", "pods", "create")
    asked = {(*what, verb) for what, verbs in NEEDED.items() for verb in verbs.split()}
    assert asked == in_role - {dry_run}, ROLES


@pytest.mark.parametrize(
    ("gpu", "metric"),
    [
        ("nvidia-tesla-t4", "NVIDIA_T4_GPUS"),
        ("nvidia-tesla-a100", "NVIDIA_A100_GPUS"),
        ("nvidia-a100-80gb", "NVIDIA_A100_80GB_GPUS"),
        ("nvidia-h100-80gb", "NVIDIA_H100_GPUS"),
        ("nvidia-l4", "NVIDIA_L4_GPUS"),
    ],
)
def test_a_gpu_has_a_quota(gpu: str, metric: str) -> None:
    assert gpu_metric(gpu) == metric


def test_spot_vms_use_the_preemptible_quota_if_there_is_one() -> None:
    both = {"NVIDIA_T4_GPUS": (0.0, 0.0), "PREEMPTIBLE_NVIDIA_T4_GPUS": (1.0, 0.0)}
    assert lack_of_room(SPOT, both, {}) is None
    assert lack_of_room(SPOT.model_copy(update={"provisioning": "OnDemand"}), both, {}) is not None
    none = both | {"PREEMPTIBLE_NVIDIA_T4_GPUS": (0.0, 0.0)}
    told = lack_of_room(SPOT, none, {})
    assert told == "NVIDIA_T4_GPUS in us-central1: 0 of 0 are in use, and a VM needs 1"
    assert lack_of_room(SPOT, {}, {}) is None
