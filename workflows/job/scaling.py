"""The number of replicas: what follows from ``spec.replicas``, which ``kubectl scale`` edits."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events
    from workflows.job.checkpoints.policy.survivor import least_advanced
    from workflows.job.state.job import JobState
    from workflows.job.state.replica import Place, Replica

from workflows.job.core.job import Job


def meant(state: JobState) -> list[Replica]:
    """Find the replicas that are to exist: neither scaled down nor started only to prove an image."""
    return [replica for replica in state.replicas.values() if replica.halt != "ScaledDown" and not replica.proof]


def scale(job: Job) -> None:
    """Release the replicas that are too many, the least far first, and begin those that are missing."""
    if job.state.suspended:
        return
    for _ in range(len(meant(job.state)) - job.spec.replicas):
        failed = [replica for replica in meant(job.state) if replica.outcome == "Failed"]  # of no use to anybody
        living = [replica for replica in meant(job.state) if replica.outcome is None]
        gone = least_advanced(failed or living, workflow.now())
        if gone is None:
            return
        gone.halt = "ScaledDown"
        job.event(events.SCALED_DOWN, f"replica {gone.index} is released")
    for index in range(job.spec.replicas + len(job.state.replicas)):
        if len(meant(job.state)) >= job.spec.replicas:
            return
        if index not in job.state.replicas:
            job.state.replicas[index] = _begin(job.state, index)


def _begin(state: JobState, index: int) -> Replica:
    """Begin a replica; one that was there before goes on counting its incarnations and VMs."""
    incarnation, number = state.retired.pop(index, (-1, 0))
    return Replica(index=index, incarnation=incarnation, place=Place(number=number), since=workflow.now(), ran=False)


def forget_scaled_down(state: JobState) -> None:
    """Forget replicas that are released, but for the numbers that must not be used twice."""
    for index, replica in list(state.replicas.items()):
        if replica.phase == "Released" and replica.halt == "ScaledDown":
            state.retired[index] = (replica.incarnation, replica.place.number)
            del state.replicas[index]
