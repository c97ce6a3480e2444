"""What is done about a lost replica, as a plan: who is checkpointed, who is told, where it may run next."""

from datetime import timedelta
from typing import Any

import pytest

from api.messages import VmReport
from api.spot_instance_job import SpotInstanceJobSpec
from tests.unit.policy import NOW, ago, replica
from tests.workflows.documents import job_spec
from workflows.job.checkpoints.policy.source import SurvivorChoice
from workflows.job.replica.policy.recovery import Loss, RecoveryPlan, plan_recovery
from workflows.job.state.checkpoint import Checkpoint
from workflows.job.state.job import JobState, Notice
from workflows.job.state.replica import Recovery, Replica
from workflows.job.state.vm import Vm

LOST = Loss("preempted", machine_stays=False)
FAILED = Loss("exit code 1", machine_stays=True)


def spec(**checkpoint: Any) -> SpotInstanceJobSpec:
    return job_spec(checkpoint=checkpoint)


def bought(index: int = 0, **changes: Any) -> Replica:
    return replica(index, **{"live": True, "vm_key": f"0-r{index}-v1", **changes})


def state(*replicas: Replica, notice: float | None = None, **known: Any) -> JobState:
    """Make a job of these replicas; ``notice`` is the seconds that replica 0's machine has left."""
    notices = {"node-0": Notice(source="cloud", at=NOW, ends_at=NOW + timedelta(seconds=notice))} if notice else {}
    found = {"spec": spec(), "replicas": {each.index: each for each in replicas}, "notices": notices, **known}
    return JobState(**found)


def plan(job: JobState, loss: Loss = LOST) -> RecoveryPlan:
    return plan_recovery(job, job.replicas[0], loss, NOW)


def test_the_survivor_is_checkpointed_and_the_machine_is_left() -> None:
    found = plan(state(bought(0), bought(1)))
    assert found.survivor == SurvivorChoice(replica=1)
    assert (found.settled, found.leaves, found.warned_vms, found.rescue) == (False, [0], ["0-r0-v1"], None)
    assert found.ends is not None
    assert (found.ends.incarnation, found.ends.nodes, found.ends.vm_keys) == (0, ["node-0"], ["0-r0-v1"])


def test_a_training_that_failed_by_itself_stays_on_its_machine() -> None:
    found = plan(state(bought(0), bought(1)), FAILED)
    assert (found.settled, found.leaves, found.warned_vms) == (True, [], [])
    assert found.ends is not None
    assert found.ends.vm_keys == []


def test_a_free_gpu_of_the_cluster_is_asked_for_again() -> None:
    assert plan(state(bought(0, vm_key=None)), FAILED).candidates == ["node-0"]


@pytest.mark.parametrize(
    ("notice", "dumps", "survivor", "made", "reason"),
    [
        (120.0, [60.0], True, True, "NoticeUsed"),
        (30.0, [60.0], True, False, "NoticeTooShort"),
        (30.0, [], True, False, "NoticeTooShort"),  # with a survivor, only what surely fits
        (30.0, [], False, True, "NoticeUsed"),  # nothing to lose
    ],
)
def test_the_dying_replica_is_checkpointed_if_its_notice_is_long_enough(
    notice: float, dumps: list[float], survivor: bool, made: bool, reason: str
) -> None:
    replicas = [bought(0), *([bought(1)] if survivor else [])]
    found = plan(state(*replicas, notice=notice, recent_dumps=dumps)).rescue
    assert found is not None
    assert (found.made, found.reason) == (made, reason)


def test_nobody_fit_means_the_newest_checkpoint_under_way() -> None:
    assert plan(state(bought(0), notice=120)).survivor == SurvivorChoice(newest=True)


def test_a_survivor_with_a_young_image_is_spared() -> None:
    young = bought(1, last_checkpoint_time=ago(5))
    assert plan(state(bought(0), young, recent_dumps=[60.0])).survivor == SurvivorChoice()


def test_another_survivor_is_asked_than_before() -> None:
    again = bought(0, recovery=Recovery(cause="preempted", noticed_at=NOW, asked=[1]))
    assert plan(state(again, bought(1), bought(2))).survivor == SurvivorChoice(replica=2)


def test_a_checkpoint_that_is_waited_for_already_stays_the_one() -> None:
    waiting = bought(0, recovery=Recovery(cause="preempted", noticed_at=NOW, checkpoint=7))
    under_way = Checkpoint(
        number=7, replica=1, incarnation=0, node="node-1", lineage_seconds=60, reason="Recovery", requested_at=NOW
    )
    assert plan(state(waiting, bought(1), checkpoints={7: under_way})).survivor is None


def test_in_mode_application_the_training_is_told_to_save() -> None:
    found = plan(
        state(bought(0), bought(1), spec=spec(mode="Application", checkpointStorage={"type": "gcs", "bucket": "b"}))
    )
    assert found.saves_itself
    assert found.survivor == SurvivorChoice()
    assert not plan(state(bought(0), bought(1))).saves_itself


# --- several members


def gang(members: int, **changes: Any) -> Replica:
    """Make a replica with a VM and a Node for each member."""
    seats = [{"vm_key": f"v{member}", "node": f"node-{member}"} for member in range(members)]
    return replica(0, **{"live": True, **seats[0], "other_seats": seats[1:], **changes})


def of_gang(job: JobState, loss: Loss = LOST) -> tuple[list[int], list[str], bool]:
    found = plan(job, loss)
    return found.leaves, found.warned_vms, found.settled


@pytest.mark.parametrize("members", [2, 3])
def test_a_gang_leaves_only_the_machine_that_had_a_notice(members: int) -> None:
    job = state(gang(members), notice=120)
    assert of_gang(job) == ([0], ["v0"], False)
    ended = plan(job).ends
    assert ended is not None
    assert (ended.vm_keys, len(ended.nodes)) == (["v0"], members)


def test_two_lost_machines_are_one_loss() -> None:
    notices = {name: Notice(source="cloud", at=NOW) for name in ("node-1", "node-2")}
    assert of_gang(state(gang(3), notices=notices)) == ([1, 2], ["v1", "v2"], False)


def test_a_vm_that_reports_its_loss_is_left_alone() -> None:
    lost = Vm(key="v1", replica=0, report=VmReport(key="v1", number=1, stage="Lost", vm_name="node-1"))
    assert of_gang(state(gang(2), vms={"v1": lost})) == ([1], ["v1"], False)


def test_a_silent_node_of_the_cluster_is_left_and_the_vm_is_kept() -> None:
    mixed = gang(2, vm_key=None)
    job = state(mixed, unready={"node-0": ago(3600)})
    assert of_gang(job) == ([0], [], False)


def test_a_gang_that_failed_by_itself_stays_on_all_its_machines() -> None:
    assert of_gang(state(gang(3)), FAILED) == ([], [], True)
    ended = plan(state(gang(3)), FAILED).ends
    assert ended is not None
    assert ended.vm_keys == []


def test_a_gang_on_free_gpus_asks_for_all_of_them_again() -> None:
    free = gang(2, vm_key=None, other_seats=[{"node": "node-1"}])
    assert plan(state(free), FAILED).candidates == ["node-0", "node-1"]


def test_whoever_names_the_members_is_believed() -> None:
    named = Loss("restore failed", machine_stays=False, announce=False, members=frozenset({1}))
    assert of_gang(state(gang(3), notice=120), named) == ([1], [], False)


def test_if_no_machine_is_known_to_be_lost_all_are_left() -> None:
    assert of_gang(state(gang(2))) == ([0, 1], ["v0", "v1"], False)


def test_the_plan_of_a_gang_is_carried_out_on_the_lost_member_alone() -> None:
    job = state(gang(3), notice=120)
    place = job.replicas[0].place
    place.leave(plan(job).leaves)
    assert (place.vm_keys, place.nodes, place.settled) == (["v1", "v2"], ["node-1", "node-2"], False)


def silent(*nodes: str, seconds: float = 25) -> dict[str, Any]:
    return {"unready": {node: ago(seconds) for node in nodes}}


def test_a_silent_machine_of_a_gang_is_left_and_released_at_once() -> None:
    job = state(gang(3), **silent("node-1"))
    assert of_gang(job) == ([1], [], False)
    assert plan(job).silent_vms == ["v1"]
    assert plan(job).hangs, "the others wait for it, so they can save nothing"


def test_a_node_is_not_silent_at_once_or_if_all_are() -> None:
    assert plan(state(gang(3), **silent("node-1", seconds=24))).leaves == [0, 1, 2]
    assert plan(state(gang(2), **silent("node-0", "node-1"))).silent_vms == []
    assert plan(state(bought(0), **silent("node-0"))).silent_vms == [], "nobody waits for a replica of one pod"


def test_with_a_notice_the_gang_saves_itself() -> None:
    assert not plan(state(gang(2, view=both_run()), notice=30)).hangs


def test_a_gang_of_which_a_pod_has_ended_saves_nothing() -> None:
    view = both_run()
    view["other_pods"][1]["phase"] = "Failed"
    assert plan(state(gang(2, view=view), notice=30)).hangs


def both_run() -> dict[str, Any]:
    pods = [{"name": f"p{member}", "uid": f"u{member}", "phase": "Running"} for member in range(2)]
    return {"job_name": "job", "pod": pods[0], "other_pods": {1: pods[1]}}


def test_planning_changes_nothing() -> None:
    job = state(bought(0), bought(1), notice=120)
    before = job.model_copy(deep=True)
    plan(job)
    assert job == before
