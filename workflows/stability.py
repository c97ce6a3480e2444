"""The condition ``Stable``: whether the pods of some replica end again and again on machines that stand."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policy.standing import instability

from workflows.job import Job

STABLE = "Stable"
"""The condition: no replica's pod ends again and again. It is absent as long as that never happened."""


def tell_stability(job: Job) -> None:
    """Say who ends a replica's pods and how often, and once that is over, that it is. Level-triggered."""
    trouble, known = instability(job.state.replicas.values()), job.state.conditions.get(STABLE)
    if trouble is not None:
        job.condition(STABLE, False, *trouble)
        if known is None or known.status != "False" or known.reason != trouble[0]:
            job.event(trouble[0], trouble[1], warning=True)
    elif known is not None and known.status == "False":
        job.condition(STABLE, True, "RunsWell", "no replica's pod ends again and again any more")
