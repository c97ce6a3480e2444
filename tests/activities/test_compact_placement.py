"""The placement policy of a gang, against the emulated GCE: made before the first instance, gone with the last one."""

import asyncio

import pytest
from temporalio.exceptions import ApplicationError

from activities.compute.instance import placement_owner
from activities.compute.preflight import check_cloud
from api import errors
from api.names import vm_name
from tests.activities.compute_setting import ZONE, Setting, compact_vm, create_vm, setting, vm_ref
from tests.activities.test_preflight_cloud import preflight

__all__ = ["setting"]

OWNER = placement_owner("c1")


async def policies(setting: Setting) -> list[str]:
    compute = await setting.cloud.open(None, "default")
    return [policy.name for policy in await compute.placements("demo", OWNER)]


def member(number: int) -> object:
    return vm_ref(name=vm_name(f"0badcafe-r0-v{number}", 1))


async def test_all_machines_of_a_gang_name_one_policy_which_goes_with_the_last(setting: Setting) -> None:
    first, second = (compact_vm(member(number)) for number in (1, 2))
    assert (await setting.created(first)).vm.status == "RUNNING"
    assert (await setting.created(second)).vm.status == "RUNNING"
    named = [instance["resourcePolicies"] for instance in setting.gce.instances()]
    assert len(named) == 2
    assert named[0] == named[1]
    assert await policies(setting) == [first.vm.placement]
    await setting.gone(first.vm)
    assert await policies(setting) == [first.vm.placement], "the other machine is in it"
    await setting.gone(second.vm)
    assert await policies(setting) == []


async def test_two_machines_at_once_make_one_policy(setting: Setting) -> None:
    made = await asyncio.gather(*(setting.created(compact_vm(member(number))) for number in (1, 2, 3)))
    assert [each.vm.status for each in made] == ["RUNNING"] * 3
    assert len(await policies(setting)) == 1


async def test_a_creation_that_was_refused_leaves_a_policy_that_its_teardown_deletes(setting: Setting) -> None:
    create = compact_vm()
    setting.gce.faults.withdraw_permissions("compute.disks.create")
    with pytest.raises(ApplicationError):
        await setting.run(setting.activities.create_vm, create)
    assert await policies(setting) == [create.vm.placement]
    await setting.gone(create.vm)
    assert await policies(setting) == []


async def test_a_machine_type_that_cannot_be_near_is_refused_with_the_remedy(setting: Setting) -> None:
    apart = create_vm(compact_vm().vm)
    with pytest.raises(ApplicationError, match="not applicable") as raised:
        await setting.run(setting.activities.create_vm, apart)
    assert raised.value.type == errors.UNSUPPORTED
    assert "placement: Zone" in str(raised.value)


async def test_a_policy_of_somebody_else_is_not_touched(setting: Setting) -> None:
    create = compact_vm()
    compute = await setting.cloud.open(None, "default")
    await compute.ensure_placement("demo", ZONE, create.vm.placement or "", placement_owner("another"))
    with pytest.raises(ApplicationError, match="not ours") as raised:
        await setting.run(setting.activities.create_vm, create)
    assert raised.value.type == errors.CONFLICT
    await setting.gone(create.vm)
    assert len(await compute.placements("demo", placement_owner("another"))) == 1


async def test_the_preflight_names_what_compact_placement_lacks(setting: Setting) -> None:
    setting.gce.faults.withdraw_permissions("compute.resourcePolicies.create")
    asked = preflight()
    gang = {"gang": {"minSize": 2, "maxSize": 2, "placement": "Compact"}, "replicas": 1}
    spec = asked.spec.model_validate(asked.spec.model_dump(by_alias=True, exclude_none=True) | gang)
    credentials, cloud = await check_cloud(setting.cloud, asked.model_copy(update={"spec": spec}))
    assert "compute.resourcePolicies.create" in credentials.message
    assert (cloud.status, cloud.reason) == ("False", errors.UNSUPPORTED)
    assert "n1-standard-4" in cloud.message
    assert "placement: Zone" in cloud.message
