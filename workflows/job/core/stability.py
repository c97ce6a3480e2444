"""The condition ``Stable``: whether the pods of a replica end again and again while their machines stay up."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import conditions, reasons
    from workflows.job.replica.policy.ends import instability

from workflows.job.core.job import Job


def report_stability(job: Job) -> None:
    """Report who ends a replica's pods and how often, and later that it is over.

    It is level-triggered: a second call changes nothing.
    """
    unstable, known = instability(job.state.replicas.values()), job.state.conditions.get(conditions.STABLE)
    if unstable is not None:
        job.condition(conditions.STABLE, False, *unstable)
        if known is None or known.status != "False" or known.reason != unstable[0]:
            job.event(unstable[0], unstable[1], warning=True)
    elif known is not None and known.status == "False":
        job.condition(conditions.STABLE, True, reasons.RUNS_WELL, "no replica's pod ends again and again any more")
