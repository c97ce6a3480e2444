"""Each invariant can fail: it finds a violation planted in the world, and nothing in the same world without it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from activities import signatures as act
from api import names
from api.common import Condition
from api.gang import Gang
from api.views import RestorePoint
from tests.chaos import invariants
from tests.chaos.invariants import Invariant
from tests.chaos.ledger import Ledger
from tests.simulation.clock import Clock
from tests.workflows.bucket import Bucket, Saved
from tests.workflows.checkpoints import Checkpoints
from tests.workflows.cloud import Cloud
from tests.workflows.cluster import Cluster
from tests.workflows.documents import Documents


class Books:
    """A job with one replica, played by hand, and its ledger."""

    def __init__(self) -> None:
        clock = Clock()
        self.cloud, self.cluster = Cloud(clock), Cluster(clock, lambda *_: None)
        self.checkpoints = Checkpoints(self.cluster, lambda *_: None)
        documents = Documents(self.cluster, self.checkpoints, lambda *_: None)
        self.bucket = Bucket(self.cluster)
        self.ledger = Ledger(clock, self.cloud, self.cluster, self.checkpoints, self.bucket, documents)
        start = documents.start
        self.job = act.JobRef(namespace=start.namespace, name=start.name, uid=start.uid, job_id=start.job_id)

    def boot(self, attempt: int = 1) -> str:
        """Start a machine for the replica, with its Node."""
        name = names.vm_name(names.vm_key(self.job.job_id, 0, 1), attempt)
        self.cloud.boot(name, "us-central1-a", {names.GCE_LABEL_JOB: self.job.job_id})
        self.cluster.add_node(name, owner=self.job.job_id)
        return name

    def start(self, incarnation: int, *nodes: str, restore: RestorePoint | None = None) -> None:
        """Begin an incarnation with a member on each node, which trains a while later."""
        request = act.CreateReplica(
            job=self.job,
            job_template={},
            replica=0,
            incarnation=incarnation,
            nodes=list(nodes),
            members=len(nodes),
            bought=True,
            restore=restore,
        )
        self.ledger.asked(request)
        self.cluster.create(request)
        self.wait(60)

    def checkpoint(self, number: int) -> RestorePoint:
        """Checkpoint the training, and return what can be restored."""
        config = self.ledger.documents.spec.checkpoint_config
        request = act.CreateCheckpoint(
            job=self.job, number=number, replica=0, incarnation=0, config=config, lineage_seconds=0, unix=number
        )
        self.checkpoints.create_checkpoint(request)
        self.wait(30)
        return self.checkpoints.registry[self.checkpoints.history[-1].wanted_image()]

    def stop(self, incarnation: int) -> None:
        """Delete its Job."""
        self.cluster.stop(self.cluster.jobs[0, incarnation], delete=True, force=False)
        self.wait(10)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.ledger.clock.advance(self.ledger.clock.now + timedelta(seconds=seconds))

    def told(self, reason: str, message: str) -> None:
        """Report an Event, as the product does."""
        event = act.JobEvent(reason=reason, message=message, at=self.ledger.clock.now)
        self.ledger.documents.report(act.Report(job=self.job, events=[event]))


@pytest.fixture
def books() -> Books:
    """Let the replica train on its machine, with nothing wrong."""
    made = Books()
    made.start(0, made.boot())
    assert invariants.violations(made.ledger) == []
    return made


def found(books: Books, invariant: Invariant, but: Invariant | None = None) -> list[str]:
    """Return what one invariant finds. No other finds anything, ``but`` one that says the same of another ledger."""
    others = [each for each in invariants.ALL if each not in {invariant, but}]
    assert [one for each in others for one in each(books.ledger)] == []
    return invariant(books.ledger)


def test_a_machine_that_is_there_when_the_job_has_ended(books: Books) -> None:
    books.ledger.documents.release_finalizers(act.ReleaseFinalizers(job=books.job, vm_name=None, secrets=[]))
    books.wait(1)
    assert found(books, invariants.no_vm_outlives_its_job)


def test_two_machines_for_one_vm(books: Books) -> None:
    books.boot(attempt=2)
    books.wait(1)
    assert found(books, invariants.one_vm_for_an_incarnation)


def test_two_machines_for_one_vm_one_after_the_other_are_none(books: Books) -> None:
    books.cloud.power_off(books.boot(attempt=2))
    books.cloud.power_off(next(iter(books.cloud.instances)))
    assert not found(books, invariants.one_vm_for_an_incarnation)


def test_two_pods_of_a_replica(books: Books) -> None:
    books.cluster._guard_no_twins = lambda new: None  # type: ignore[method-assign]
    books.cluster.add_node("gpu-a")
    books.start(1, "gpu-a")
    assert found(books, invariants.one_pod_for_a_replica)


def test_a_pod_on_a_dead_machine_is_no_twin(books: Books) -> None:
    books.cloud.died = books.cluster.machine_died
    books.cloud.power_off(books.cluster.job_of(0).pod.node)  # type: ignore[union-attr, arg-type]
    books.cluster.add_node("gpu-a")
    books.start(1, "gpu-a")
    assert not found(books, invariants.one_pod_for_a_replica)


def test_more_steps_lost_than_since_the_last_checkpoint(books: Books) -> None:
    older, newer = books.checkpoint(1), books.checkpoint(2)
    books.checkpoints.registry.pop(newer.label)  # retention has dropped the wrong one
    books.stop(0)
    books.start(1, next(iter(books.cluster.nodes)), restore=older)
    assert found(books, invariants.steps_lost_are_bounded)


@pytest.mark.parametrize(("keep", "lost"), [(1, False), (2, True)])
def test_a_broken_image_costs_no_more_than_what_is_kept_beside_it_saves(books: Books, keep: int, lost: bool) -> None:
    older, newer = books.checkpoint(1), books.checkpoint(2)
    spec = books.ledger.documents.spec
    kept = spec.checkpoint_config.retention.model_copy(update={"keep_last": keep})
    config = spec.checkpoint_config.model_copy(update={"retention": kept})
    books.ledger.documents.spec = spec.model_copy(update={"checkpoint_config": config})
    books.checkpoints.registry.pop(older.label)
    books.cluster.told_to_end.add(newer.label.partition("@")[0])
    books.stop(0)
    books.start(1, next(iter(books.cluster.nodes)))
    assert bool(invariants.steps_lost_are_bounded(books.ledger)) == lost


def test_a_restore_that_is_not_the_furthest(books: Books) -> None:
    older, _ = books.checkpoint(1), books.checkpoint(2)
    books.stop(0)
    books.start(1, next(iter(books.cluster.nodes)), restore=older)
    assert found(books, invariants.restores_are_the_furthest, but=invariants.steps_lost_are_bounded)


@pytest.mark.parametrize("why", ["broken", "given up", "just made", "told to end"])
def test_an_image_that_is_not_usable_is_not_missed(books: Books, why: str) -> None:
    older, newer = books.checkpoint(1), books.checkpoint(2)
    if why == "broken":
        books.cluster.bad[newer.label] = "StartError"
    if why == "told to end":
        books.cluster.told_to_end.add(newer.label)
    if why == "given up":
        books.told("CheckpointFailed", "checkpoint 2: it sticks")
    books.stop(0)
    if why == "just made":
        books.ledger.finished[2] = replace(books.ledger.finished[2], at=books.ledger.clock.now)
    books.start(1, next(iter(books.cluster.nodes)), restore=older)
    assert not found(books, invariants.restores_are_the_furthest)


def test_a_job_that_is_completed_before_its_training(books: Books) -> None:
    done = Condition(type="Completed", status="True", reason="Completed", last_transition_time=books.ledger.clock.now)
    books.ledger.documents.status.conditions.append(done)
    assert found(books, invariants.completed_means_trained)
    books.cluster.end_pod(books.cluster.job_of(0), 0)
    assert not found(books, invariants.completed_means_trained)


def test_a_notice_without_an_answer(books: Books) -> None:
    books.cluster.mark(next(iter(books.cluster.nodes)))
    books.wait(0)
    books.wait(60)
    assert found(books, invariants.notices_are_answered)


@pytest.mark.parametrize(("late", "lost", "well"), [(1, False, True), (60, False, False), (60, True, True)])
def test_an_answer_that_comes_in_time_or_provably_late(books: Books, late: float, lost: bool, well: bool) -> None:
    node = next(iter(books.cluster.nodes))
    books.ledger.disturbance(begins=lost)
    books.cluster.mark(node)
    books.wait(0)
    books.wait(late)
    books.told("Preempted", f"replica 0 on {node}: a notice")
    books.wait(3600)
    assert (found(books, invariants.notices_are_answered) == []) == well


def test_something_left_behind(books: Books) -> None:
    books.ledger.left.append("machine x")
    assert found(books, invariants.everything_is_gone)


def test_a_machine_after_which_nobody_looks(books: Books) -> None:
    books.ledger.is_owned = lambda name: False
    books.wait(1)
    assert found(books, invariants.every_machine_has_an_owner)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_job_that_does_not_train_again(books: Books, blocked: bool) -> None:
    books.ledger.is_blocked = lambda: blocked
    books.stop(0)
    for _ in range(3):
        books.wait(3600)
    assert bool(found(books, invariants.it_trains_again_soon)) != blocked


def gang(books: Books) -> list[str]:
    """Let a gang train instead, and return its nodes."""
    books.stop(0)
    nodes = [books.cluster.add_node(name).name for name in ("gpu-a", "gpu-b")]
    books.start(1, *nodes)
    return nodes


@pytest.mark.parametrize("blocked", [False, True])
def test_a_gang_that_hangs(books: Books, blocked: bool) -> None:
    _, node = gang(books)
    books.ledger.is_blocked = lambda: blocked
    books.cluster.machine_died(node)
    for _ in range(3):
        books.wait(600)
    assert bool(found(books, invariants.no_gang_hangs)) != blocked


def test_two_members_beside_each_other(books: Books) -> None:
    nodes = gang(books)
    books.wait(600)
    assert not found(books, invariants.members_are_apart)
    books.cluster.jobs[0, 1].pods[1].node = nodes[0]
    books.wait(1)
    assert found(books, invariants.members_are_apart)


def test_a_gang_that_starts_with_too_few(books: Books) -> None:
    books.ledger.documents.spec = books.ledger.documents.spec.model_copy(update={"gang": Gang(min_size=2, max_size=3)})
    nodes = gang(books)
    assert not found(books, invariants.gangs_have_allowed_sizes)
    books.stop(1)
    books.start(2, nodes[0])
    assert found(books, invariants.gangs_have_allowed_sizes)


@pytest.mark.parametrize("complete", [True, False])
def test_a_start_from_a_checkpoint_that_is_torn(books: Books, complete: bool) -> None:
    saved = Saved("team/llm/7", progress=7, complete=complete)
    books.bucket.saved.append(saved)
    books.cluster.held[saved.path] = 7
    books.stop(0)
    point = RestorePoint(kind="Storage", path=saved.path, progress=7, created_at=books.ledger.clock.now)
    books.start(1, next(iter(books.cluster.nodes)), restore=point)
    assert bool(found(books, invariants.nothing_torn_is_restored)) != complete


def test_a_notice_in_a_long_outage_is_answered_after_it(books: Books) -> None:
    node = next(iter(books.cluster.nodes))
    books.ledger.disturbance(begins=True)
    books.cluster.mark(node)
    books.wait(0)
    books.wait(2 * 86_400)
    assert not found(books, invariants.notices_are_answered)
    books.ledger.disturbance(begins=False)
    books.wait(3600)
    assert found(books, invariants.notices_are_answered)


def test_a_credential_in_a_history(books: Books) -> None:
    books.ledger.planted = ["s3cret"]
    books.ledger.written = {"status": "all is well", "team/llm": "…password=s3cret…"}
    assert found(books, invariants.no_credential_is_written) == ["a credential is in team/llm"]
