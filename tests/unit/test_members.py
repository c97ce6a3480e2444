"""What one to three members of a replica make together: pods that run or ended, machines that are lost or gone."""

from datetime import timedelta
from random import Random

import pytest

from api.messages import VmReport
from api.views import PodView, ReplicaView
from tests.unit.policy import NOW, ago, node, pod, replica
from workflows.job.machines.policy.losses import has_stopped, is_dead, lost_members
from workflows.job.replica.policy.verdict import decisive_pod
from workflows.job.state.job import JobState, Notice
from workflows.job.state.replica import Old, Replica, Run
from workflows.job.state.seats import Seat
from workflows.job.state.vm import Vm

MEMBERS = [1, 2, 3]

RUNS = pod()
DONE = pod(phase="Succeeded", exit_code=0, finished_at=ago(5))
LEAVES = pod(deleting=True)


def failed(seconds: float) -> PodView:
    return pod(phase="Failed", exit_code=1, finished_at=ago(seconds))


def view(*pods: PodView | None) -> ReplicaView:
    """Make a Job with these pods, by member; None is a pod that does not exist."""
    others = {member: one for member, one in enumerate(pods) if one is not None and member > 0}
    return ReplicaView(job_name="job", pod=pods[0], other_pods=others)


def of(*pods: PodView | None) -> Replica:
    seats = [{"node": f"node-{member}"} for member in range(len(pods))]
    return replica(0, view=view(*pods), live=True, **seats[0], other_seats=seats[1:])


def decisive(*pods: PodView | None) -> PodView | None:
    one = of(*pods)
    return decisive_pod(one.run.pods, one.members, None)


# --- pods


@pytest.mark.parametrize("members", MEMBERS)
def test_all_run_only_if_each_does(members: int) -> None:
    assert of(*[RUNS] * members).all_run
    for wrong in (None, DONE, LEAVES, failed(1), pod(phase="Pending"), pod(disrupted=True)):
        for member in range(members):
            pods: list[PodView | None] = [RUNS] * members
            pods[member] = wrong
            assert not of(*pods).all_run


def test_the_first_that_failed_decides() -> None:
    early, late = failed(30), failed(10)
    assert decisive(late, early, RUNS) is early
    assert decisive(DONE, late) is late
    assert decisive(None, late) is late, "although another member has no pod any more"


def test_a_failed_container_decides_before_its_pod_has_ended() -> None:
    beside = pod(ends=[{"name": "train", "exit_code": 3, "finished_at": ago(20)}])
    assert decisive(RUNS, failed(5), beside) is beside


def test_without_a_failure_a_missing_pod_decides() -> None:
    assert decisive(RUNS, None) is None
    assert decisive(None) is None


def test_a_pod_that_is_taken_away_decides_before_those_that_run() -> None:
    assert decisive(RUNS, LEAVES, DONE) is LEAVES


def test_success_needs_every_member() -> None:
    assert decisive(DONE, RUNS) is RUNS
    assert decisive(DONE, DONE) == DONE


@pytest.mark.parametrize("one", [RUNS, DONE, LEAVES, failed(1), pod(phase="Pending"), None])
def test_one_member_is_decided_by_its_only_pod(one: PodView | None) -> None:
    assert decisive(one) is one
    assert of(one).run.only_pod is one


def test_the_only_pod_is_refused_where_there_are_several() -> None:
    with pytest.raises(AssertionError, match="one member only"):
        assert of(RUNS, RUNS).run.only_pod


@pytest.mark.parametrize("members", MEMBERS)
def test_a_view_is_read_as_it_was_written(members: int) -> None:
    seen = view(*[pod(node=f"node-{member}") for member in range(members)])
    written = seen.model_dump(mode="json", by_alias=True)
    assert ReplicaView.model_validate(written) == seen
    assert ("otherPods" in written) == (members > 1), "one pod is stored and sent as it always was"


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("seed", range(5))
def test_a_run_remembers_who_disturbed_it_until_the_next_begins(seed: int, members: int) -> None:
    random, run, remembered = Random(seed), Run(), None
    for version in range(1, 60):
        if random.random() < 0.1:
            run.begin(None, pinned=False)
            assert (run.pods, run.nodes, run.disruption) == ({}, {}, None)
            remembered = None
        words = random.choice([None, None, "EvictionByEvictionAPI: drained"])
        member, pods = random.randrange(members), [pod(node=f"n{number}") for number in range(members)]
        pods[member] = pods[member].model_copy(update={"disruption": words})
        run.see(view(*pods), version)
        remembered = words or remembered
        assert run.disruption == remembered
        assert run.nodes == {number: f"n{number}" for number in range(members)}
        assert list(run.pods) == list(range(members))


# --- machines


def noticed(*members: int) -> dict[str, Notice]:
    return {f"node-{member}": Notice(source="cloud", at=NOW, ends_at=NOW) for member in members}


@pytest.mark.parametrize("members", MEMBERS)
def test_exactly_the_members_with_a_notice_are_lost(members: int) -> None:
    one = of(*[RUNS] * members)
    for mask in range(2**members):
        gone = [member for member in range(members) if mask >> member & 1]
        assert lost_members(JobState(notices=noticed(*gone)), one.place, NOW) == gone


def test_a_node_that_is_not_there_yet_is_not_lost() -> None:
    one = of(RUNS, RUNS)
    one.place.others[0] = Seat(vm_key="v1")
    assert lost_members(JobState(), one.place, NOW) == []
    broken = Vm(key="v1", replica=0, report=VmReport(key="v1", number=1, stage="Lost"))
    assert lost_members(JobState(vms={"v1": broken}), one.place, NOW) == [1]


def test_the_notice_that_ends_first_comes_first() -> None:
    late = Notice(source="late", at=ago(50), ends_at=NOW + timedelta(seconds=90))
    soon = Notice(source="soon", at=ago(10), ends_at=NOW + timedelta(seconds=20))
    state, one = JobState(notices={"node-0": late, "node-1": soon}), of(RUNS, RUNS)
    assert list(state.notices_to(one)) == ["node-1", "node-0"]
    assert state.notice_to(one) == soon


def test_an_old_incarnation_has_stopped_once_each_member_has() -> None:
    state = JobState(nodes={"node-1": node("node-1", exists=False)})
    seats = [Seat(node="node-0"), Seat(node="node-1")]
    old = Old(incarnation=0, first=seats[0], others=seats[1:], view=view(RUNS, RUNS))
    assert [is_dead(state, seat, NOW) for seat in seats] == [False, True]
    assert not has_stopped(state, old, NOW), "a pod on the other machine still runs"
    old.view = view(DONE, RUNS)
    assert has_stopped(state, old, NOW)
    old.view = None
    assert not has_stopped(state, old, NOW)


@pytest.mark.parametrize("members", MEMBERS)
def test_a_job_without_pods_has_stopped_if_its_controller_makes_none(members: int) -> None:
    seats = [Seat(node=f"node-{member}") for member in range(members)]
    old = Old(incarnation=0, first=seats[0], others=seats[1:], view=view(*[None] * members))
    assert not has_stopped(JobState(), old, NOW)
    old.view = ReplicaView(job_name="job", job_exists=False)
    assert has_stopped(JobState(), old, NOW)
