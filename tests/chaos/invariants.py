"""What must be true in every story, whatever fails on the way. Each invariant lists its violations, for people."""

from collections.abc import Callable
from datetime import MAXYEAR, datetime, timedelta

from tests.chaos.ledger import Choice, Finished, Ledger, Notice
from tests.workflows.documents import OFTEN
from workflows.job.machines.policy.long_notice import LEAST

HEARD = timedelta(seconds=2)  # from an image's arrival until the job has its digest and keeps it
UNHEARD = timedelta(minutes=25)  # until it looks by itself, if nobody told it
ANSWER = timedelta(seconds=5)  # to a notice that arrived
LATE_ANSWER = timedelta(minutes=20)  # to one that did not: a poll finds the machine's end
TRAINS_AGAIN = timedelta(hours=2)  # once nothing is in the way, with the longest back-off of an hour
HANGS = timedelta(minutes=20)  # once nothing is in the way
CRASHED_AT_ONCE = 60.0  # seconds after which a training's end says nothing of the image that it started from

Invariant = Callable[[Ledger], list[str]]


def no_vm_outlives_its_job(ledger: Ledger) -> list[str]:
    """Check that the cloud has no machine of the job once the finalizers have gone, then or later."""
    return [f"{name} was there when its job had ended" for name in sorted(ledger.after_the_end)]


def one_vm_for_an_incarnation(ledger: Ledger) -> list[str]:
    """Check that of the attempts for one VM never two exist at once, whatever the creations answered."""
    return [f"{count} machines at once for {key}" for key, count in ledger.most_vms.items() if count > 1]


def one_pod_for_a_replica(ledger: Ledger) -> list[str]:
    """Check that two incarnations of a replica never train at once, on machines that run."""
    return [f"replica {replica} trained twice at once: {', '.join(jobs)}" for replica, jobs in ledger.twins.items()]


def steps_lost_are_bounded(ledger: Ledger) -> list[str]:
    """Check that only the steps since the last finished checkpoint are trained again, even if its image is not kept.

    If the newest images are broken, those are meant that ``keepLast`` promises to keep beside them.
    """
    keep, found = ledger.documents.spec.checkpoint_config.retention.keep_last, []
    for choice in ledger.choices.values():
        known = [one for one in ledger.finished.values() if one.at <= choice.at]
        best = _furthest(ledger, choice, sorted(known, key=lambda one: one.progress)[-keep:])
        if best is not None and best.image not in ledger.cluster.bad and _progress(choice) < best.progress:
            found.append(
                f"{_name(choice)} began from {_progress(choice):.0f}, "
                f"though checkpoint {best.number} had finished at {best.progress:.0f}"
            )
    return found


def restores_are_the_furthest(ledger: Ledger) -> list[str]:
    """Check that each incarnation starts from the furthest image that was usable in the registry at that moment."""
    found = []
    for choice in ledger.choices.values():
        best = _furthest(ledger, choice, choice.images)
        if best is not None and _progress(choice) < best.progress:
            found.append(f"{_name(choice)} began from {_progress(choice):.0f}, though the registry had {best.image}")
    return found


def completed_means_trained(ledger: Ledger) -> list[str]:
    """Check that a job is Completed by a training that finished by itself, not by one that something else ended."""
    completed = ledger.documents.condition("Completed")
    if completed is None or completed.status != "True":
        return []
    return [] if ledger.cluster.finished else ["Completed, though no training came to its end"]


def notices_are_answered(ledger: Ledger) -> list[str]:
    """Check that every notice makes its replica leave, at once if it arrived, unless its training was ending anyway.

    A gang may train on through a long notice, as long as the usual one is left to save itself.
    """
    return [
        f"the notice for {one.node} at {one.at:%H:%M:%S} under {one.replica}.{one.incarnation} was not answered"
        for one in ledger.notices
        if not _answered(ledger, one)
    ]


def everything_is_gone(ledger: Ledger) -> list[str]:
    """Check that at the end only what the documents promise to keep is left of the job."""
    return [f"left behind: {what}" for what in ledger.left]


def every_machine_has_an_owner(ledger: Ledger) -> list[str]:
    """Check that a workflow looks after every machine at every moment, because machines cost money."""
    return [f"nobody looked after {name}" for name in sorted(ledger.ownerless)]


def it_trains_again_soon(ledger: Ledger) -> list[str]:
    """Check that the job trains again once nothing is in the way, however long an outage was."""
    idle = ledger.longest_idle
    return [f"nothing trained for {idle}, though nothing was in the way"] if idle > TRAINS_AGAIN else []


def no_gang_hangs(ledger: Ledger) -> list[str]:
    """Check that nobody leaves members of a gang to wait for one that has stopped, which they may do for ever."""
    hang = ledger.longest_hang
    return [f"a gang hung for {hang}, though nothing was in the way"] if hang > HANGS else []


def members_are_apart(ledger: Ledger) -> list[str]:
    """Check that each member of a gang has a machine of its own."""
    return [f"two members beside each other: {where}" for where in ledger.beside]


def gangs_have_allowed_sizes(ledger: Ledger) -> list[str]:
    """Check that a gang never starts with fewer members than it needs, or with more than it may have."""
    return list(ledger.missized)


def nothing_torn_is_restored(ledger: Ledger) -> list[str]:
    """Check that nothing starts from a checkpoint of which a part is missing."""
    return [f"something began from {path}, which is not complete" for path in ledger.torn]


def no_credential_is_written(ledger: Ledger) -> list[str]:
    """Check that none of the planted credentials is in any history, status, Event or log."""
    return [
        f"a credential is in {place}"
        for place, text in ledger.written.items()
        if any(secret in text for secret in ledger.planted)
    ]


ALL: list[Invariant] = [
    no_vm_outlives_its_job,
    one_vm_for_an_incarnation,
    one_pod_for_a_replica,
    steps_lost_are_bounded,
    restores_are_the_furthest,
    completed_means_trained,
    notices_are_answered,
    everything_is_gone,
    every_machine_has_an_owner,
    it_trains_again_soon,
    no_gang_hangs,
    members_are_apart,
    gangs_have_allowed_sizes,
    nothing_torn_is_restored,
    no_credential_is_written,
]


def violations(ledger: Ledger) -> list[str]:
    """List the violations of all invariants, each with the name of the invariant."""
    return [f"{check.__name__}: {found}" for check in ALL for found in check(ledger)]


# --- what an image is worth


def _furthest(ledger: Ledger, choice: Choice, images: list[Finished]) -> Finished | None:
    """Find the furthest image that the job could know of when it chose."""
    known = [one for one in images if _known(ledger, one, choice) and not _crashes(ledger, one, choice)]
    return max(known, key=lambda one: one.progress, default=None)


def _known(ledger: Ledger, image: Finished, choice: Choice) -> bool:
    """True if it was told of the image and did not take its checkpoint for failed: retention deletes a late image."""
    if image.at + HEARD > choice.at or any(
        at <= choice.at for at in ledger.told("CheckpointFailed", f"checkpoint {image.number}:")
    ):
        return False
    unheard = ledger.disturbed(image.at - HEARD, image.at + 5 * HEARD)
    return not unheard or choice.at >= _later(ledger, ledger.gets_through(image.at + 5 * HEARD), UNHEARD)


def _later(ledger: Ledger, at: datetime, by: timedelta) -> datetime:
    """Add a time in which somebody looks. In some stories the world is looked at more rarely."""
    rarer = timedelta(seconds=ledger.documents.timings.resync - OFTEN.resync)
    return at + by + rarer if at.year < MAXYEAR else at


def _crashes(ledger: Ledger, image: Finished, choice: Choice) -> bool:
    """True if it goes on ending, or if two trainings that started from it crashed at once, so that it may be broken."""
    if image.image in ledger.cluster.told_to_end:
        return True
    crashed = 0
    for job in ledger.cluster.history.values():
        restore = job.request.restore
        # The pods that are gone count as well.
        failed = [pod for pod in job.latest.values() if pod.exit_code not in {None, 0} and pod.started_at]
        pod = min(failed, key=lambda each: each.stopped_at or ledger.clock.now, default=None)
        if restore is None or pod is None or pod.started_at is None:
            continue
        if pod.stopped_at and restore.label.partition("@")[0] == image.image and job.created_at < choice.at:
            crashed += (pod.stopped_at - pod.started_at).total_seconds() < CRASHED_AT_ONCE
    return crashed >= 2


def _progress(choice: Choice) -> float:
    return choice.restore.progress if choice.restore else 0.0


def _name(choice: Choice) -> str:
    return f"incarnation {choice.incarnation} of replica {choice.replica}"


# --- what a notice's answer is


def _answered(ledger: Ledger, notice: Notice) -> bool:
    due = notice.at + ANSWER + _waits(ledger)
    disturbed = ledger.disturbed(notice.at - ANSWER, due)
    within = _later(ledger, ledger.gets_through(due), LATE_ANSWER) if disturbed else due
    if ledger.clock.now < within:
        return True  # the story ended before the answer was due
    left = ledger.departures(notice.replica, notice.node)
    return any(at <= within for at in left) or (not left and _was_going(ledger, notice))


def _waits(ledger: Ledger) -> timedelta:
    """Return how long a gang may train on after a notice, at most."""
    spec, vm_spec = ledger.documents.spec, ledger.documents.vm_spec
    seconds = vm_spec.gcp.notice_seconds if vm_spec is not None and spec.members > 1 else 0.0
    return max(timedelta(), timedelta(seconds=seconds) - LEAST)


def _was_going(ledger: Ledger, notice: Notice) -> bool:
    """True if the replica was released, judged or at its end, which a notice does not change."""
    job = ledger.cluster.history[notice.replica, notice.incarnation]
    ended = any(pod.stopped_at is not None and pod.stopped_at <= notice.at + ANSWER for pod in job.pods.values())
    return ended or job.deleting
