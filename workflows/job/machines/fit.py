"""Whether the template's pod can run on what may be bought: checked before each purchase, since specs change."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions
    from workflows.policy.candidates import candidates_of

from workflows.common.calls import call
from workflows.common.patches import patched
from workflows.job.core.job import Job

JUST_CHECKED = timedelta(seconds=60)
"""How long the answer of a preflight is good for a purchase."""


def preflight_request(job: Job) -> act.PreflightRequest:
    """Make the request for a preflight, with all candidates that may be bought for this job."""
    vm_spec = job.state.vm_spec
    assert vm_spec is not None
    first = candidates_of(vm_spec)
    falls_back = vm_spec.on_demand_fallback is not None and patched("buy-what-fits")
    allowed = candidates_of(vm_spec, on_demand=falls_back)
    fallbacks = [each for each in allowed if each not in first]
    short = vm_spec.model_copy(update={"startup_script": None})  # long, and GCE's to run
    return act.PreflightRequest(job=job.ref, spec=job.spec, vm_spec=short, candidates=first, fallbacks=fallbacks)


class MachineFit:
    """Checks the candidates of one job, and remembers which do not fit."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def check(self) -> bool:
        """Check once more before money is spent. True if some machine fits.

        Raises:
            ActivityError: The check itself failed.
        """
        if not patched("buy-what-fits"):
            return True
        if self._is_just_checked() and patched("just-checked"):
            return True
        request = preflight_request(self.job).model_copy(update={"again": True})
        found = await call(act.CHECK_MACHINES, request, summary="would the pod run on what may be bought?")
        self.learn(found)
        for condition in found.conditions:
            if condition.status != "Unknown":
                self.job.condition(
                    conditions.MACHINE_FITS, condition.status == "True", condition.reason, condition.message
                )
        return found.fits

    def _is_just_checked(self) -> bool:
        """True if a preflight has just found that some machine fits, and no pod has bound a claim since.

        What was known before it began does not count.
        """
        if any(replica.incarnation >= 0 for replica in self.state.replicas.values()):
            return False
        began, known = self.state.checked_at, self.state.conditions.get(conditions.MACHINE_FITS)
        found_at = self.state.known_at.get(conditions.MACHINE_FITS)
        if began is None or found_at is None or known is None or known.status != "True":
            return False
        return began < found_at and workflow.now() - began < JUST_CHECKED

    def learn(self, found: act.Preflight) -> None:
        """Remember what does not fit. If that is not known now, what was known before still counts."""
        if any(each.type == conditions.MACHINE_FITS and each.status != "Unknown" for each in found.conditions):
            self.state.unfit = found.unfit
