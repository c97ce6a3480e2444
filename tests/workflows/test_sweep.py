"""The sweep's workflow: what it does with what it finds, on virtual time."""

from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities import signatures as act
from api import names
from api.messages import VmStart
from api.spot_instance_job import CheckpointConfig
from api.sweep import Kind, SweepReport, Swept
from tests.workflows.documents import VM_SPEC
from tests.workflows.world import TASK_QUEUE, World

REQUEST = act.SweepRequest(cluster_id="c1", namespace="outlast-system")


async def sweep(world: World, **changes: Any) -> SweepReport:
    request = REQUEST.model_copy(update=changes)
    handle = await world.env.client.start_workflow(
        names.SWEEP_WORKFLOW, request, id="sweep", task_queue=TASK_QUEUE, result_type=SweepReport
    )
    await world.pass_time(60)
    report: SweepReport = await handle.result()
    return report


def orphan(number: int) -> act.Orphan:
    key = names.vm_key(f"{number:08x}", 0, 1)
    name = names.vm_name(key, 1)
    start = VmStart(
        key=key, cluster_id="c1", job_id=f"{number:08x}", replica=0, namespace="default", job_name="-", job_uid="-",
        vm_name="t4", spec=VM_SPEC, teardown=True, found=[f"us-central1-a/{name}"],
    )  # fmt: skip
    return act.Orphan(start=start, names=[name])


def job(number: int) -> act.JobRef:
    return act.JobRef(namespace="default", name="gone", uid="", job_id=f"{number:08x}")


def mark() -> act.OrphanedTaint:
    return act.OrphanedTaint(node=act.NodeRef(name="gke-1", uid="u"), taint=names.TAINT_PREEMPTED, value="then")


def of(report: SweepReport, kind: str) -> Swept:
    return next(one for one in report.kinds if one.kind == kind)


async def test_what_nobody_owns_goes_and_the_report_says_so(world: World) -> None:
    world.fleet.orphans, world.fleet.seen = [orphan(1)], 9
    world.fleet.objects = act.OrphanedObjects(
        checkpoints=[act.CheckpointRef(job=job(1), number=3)], checkpoints_seen=5, taints=[mark()], taints_seen=1
    )
    world.fleet.claims = act.OrphanedClaims(claims=[act.OrphanedClaim(name="cdi-1", version="7")], seen=2)
    report = await sweep(world)
    assert report.summary == "orphans: 1 of 9 machines, 1 of 5 CheckpointBackups, 1 of 1 marks, 1 of 2 Leases"
    assert (report.alarm, report.dry_run) == (None, False)
    assert [(one.kind, one.swept) for one in report.kinds if one.orphans] == [
        ("machines", 1), ("CheckpointBackups", 1), ("marks", 1), ("Leases", 1),
    ]  # fmt: skip
    assert of(report, "CheckpointBackups").orphans == ["default/gone-00000001-c3"]
    assert world.fleet.keys == [names.vm_key("00000001", 0, 1)]
    assert world.fleet.marks_removed == ["gke-1"]
    assert world.fleet.claims_removed == ["cdi-1"]
    assert len(world.of("delete_checkpoint")) == 1
    assert world.of("find_orphaned_images") == []  # kept, because nobody says otherwise


async def test_an_orphans_teardown_ends_by_itself(world: World) -> None:
    world.fleet.orphans, world.fleet.seen = [orphan(1)], 9
    await sweep(world)
    handle = world.env.client.get_workflow_handle(names.vm_workflow_id(names.vm_key("00000001", 0, 1)))
    await world.pass_time(60)
    assert await handle.result() == "Sweep"
    assert (await handle.describe()).status == WorkflowExecutionStatus.COMPLETED


async def test_a_dry_run_changes_nothing(world: World) -> None:
    world.fleet.orphans, world.fleet.seen = [orphan(1)], 9
    world.fleet.objects = act.OrphanedObjects(taints=[mark()], taints_seen=1)
    world.fleet.claims = act.OrphanedClaims(claims=[act.OrphanedClaim(name="cdi-1", version="7")], seen=2)
    report = await sweep(world, dry_run=True)
    assert (report.dry_run, of(report, "machines").orphans) == (True, orphan(1).names)
    assert [one.swept for one in report.kinds] == [0, 0, 0, 0, 0, 0]
    assert (world.fleet.keys, world.fleet.marks_removed, world.fleet.claims_removed) == ([], [], [])


async def test_many_at_once_stop_it_and_tell_how_to_go_on(world: World) -> None:
    world.fleet.orphans, world.fleet.seen = [orphan(number) for number in range(5)], 6
    world.fleet.objects = act.OrphanedObjects(taints=[mark()], taints_seen=1)
    report = await sweep(world)
    assert report.alarm is not None
    assert "5 of 6 machines" in report.alarm
    assert report.summary.startswith("ALARM")
    assert (world.fleet.keys, world.fleet.marks_removed) == ([], [])
    (alarm,) = world.fleet.alarms
    assert (alarm.namespace, alarm.message) == ("outlast-system", report.alarm)
    assert "temporal workflow start" in alarm.message


async def test_a_person_who_has_looked_sweeps_them_anyway(world: World) -> None:
    world.fleet.orphans, world.fleet.seen = [orphan(number) for number in range(5)], 5
    report = await sweep(world, anyway=True)
    assert (report.alarm, of(report, "machines").swept) == (None, 5)
    assert len(world.fleet.keys) == 5


@pytest.mark.parametrize(
    ("machines", "unreadable", "kept"),
    [([], [], ""), ([f"{1:08x}"], [], "it still has machines"), ([], ["p: 403"], "it may have machines")],
)
async def test_what_a_job_that_is_gone_holds_is_let_go_after_its_machines(
    world: World, machines: list[str], unreadable: list[str], kept: str
) -> None:
    world.fleet.holds = act.OrphanedFinalizers(jobs=[job(1)], seen=2)
    world.fleet.with_machines, world.fleet.unreadable = machines, unreadable
    held = of(await sweep(world), "finalizers")
    assert (held.seen, held.orphans, held.swept) == (2, ["default/gone (00000001)"], int(not kept))
    assert kept in str(held.failed)
    assert len(world.of("release_finalizers")) == int(not kept)


async def test_images_go_where_the_installation_says_so(world: World) -> None:
    images = ["r/a:00000001-p000000000001-1"]
    deletion = act.DeleteImages(job=job(1), config=CheckpointConfig(checkpoint_image_repo="r/a"), images=images)
    world.fleet.images = act.OrphanedImages(deletions=[deletion], seen=4, unreadable=["r/b: 500"])
    report = await sweep(world, images_after=3600)
    assert of(report, "images").swept == 1
    assert report.unreadable == ["r/b: 500"]
    (asked,) = world.of("delete_images")
    assert asked.request.images == images


async def test_what_fails_is_told_and_the_rest_is_swept(world: World) -> None:
    world.fleet.orphans, world.fleet.seen = [orphan(1)], 9
    world.fleet.objects = act.OrphanedObjects(taints=[mark()], taints_seen=1)
    world.down.add("adopt_orphan")
    report = await sweep(world)
    assert of(report, "machines").swept == 0
    assert "adopt_orphan is down" in of(report, "machines").failed[0]
    assert world.fleet.marks_removed == ["gke-1"]


@pytest.mark.parametrize(
    ("broken", "kinds"),
    [
        ("find_orphaned_objects", ["CheckpointBackups", "marks"]),
        ("find_orphaned_claims", ["Leases"]),
        ("find_orphaned_holds", ["finalizers"]),
        ("find_orphaned_images", ["images"]),
    ],
)
async def test_a_finder_that_fails_does_not_keep_the_machines(world: World, broken: str, kinds: list[str]) -> None:
    world.fleet.orphans, world.fleet.seen = [orphan(1)], 9
    world.down.add(broken)
    report = await sweep(world, images_after=3600)
    assert of(report, "machines").swept == 1
    assert list(report.not_looked_for) == kinds
    assert all(f"{broken} is down" in why for why in report.not_looked_for.values())
    assert f"could not look for {', '.join(kinds)}" in report.summary
    assert world.fleet.alarms == []  # once is no reason to wake anybody


async def test_a_job_whose_machines_nobody_could_look_for_keeps_its_credentials(world: World) -> None:
    world.fleet.holds = act.OrphanedFinalizers(jobs=[job(1)], seen=2)
    world.fleet.claims = act.OrphanedClaims(claims=[act.OrphanedClaim(name="cdi-1", version="7")], seen=2)
    world.down.add("find_orphans")
    report = await sweep(world)
    assert "it may have machines" in str(of(report, "finalizers").failed)
    assert world.of("release_finalizers") == []
    assert world.fleet.claims_removed == ["cdi-1"]


@pytest.mark.parametrize(("before", "alarms"), [(["Leases"], 1), (["images"], 0), ([], 0)])
async def test_a_finder_that_fails_twice_in_a_row_raises_an_alarm(
    world: World, before: list[Kind], alarms: int
) -> None:
    world.env.last_results["sweep"] = SweepReport(summary="", not_looked_for=dict.fromkeys(before, "down"))
    world.down.add("find_orphaned_claims")
    await sweep(world)
    assert len(world.fleet.alarms) == alarms
    assert all("could not look for Leases" in alarm.message for alarm in world.fleet.alarms)
