"""Buys nothing that the template's pod can never run on: asks before each purchase, as volumes and specs change."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api.common import MACHINE_FITS
    from workflows.policy.candidates import candidates_of

from workflows.calls import call
from workflows.job import Job


def preflight_request(job: Job) -> act.PreflightRequest:
    """Ask about all that may be bought for this job."""
    vm_spec = job.state.vm_spec
    assert vm_spec is not None
    first = candidates_of(vm_spec)
    falls_back = vm_spec.on_demand_fallback is not None and workflow.patched("buy-what-fits")
    allowed = candidates_of(vm_spec, on_demand=falls_back)
    fallbacks = [each for each in allowed if each not in first]
    return act.PreflightRequest(job=job.ref, spec=job.spec, vm_spec=vm_spec, candidates=first, fallbacks=fallbacks)


class MachineFit:
    """What one job knows of the machines that it may buy."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state

    async def buys(self) -> bool:
        """Look once more, as money is about to be spent; False if no machine would be of use.

        Raises:
            ActivityError: the look failed.
        """
        if not workflow.patched("buy-what-fits"):
            return True
        request = preflight_request(self.job).model_copy(update={"again": True})
        found = await call(act.CHECK_MACHINES, request, summary="would the pod run on what may be bought?")
        self.learn(found)
        for condition in found.conditions:
            if condition.status != "Unknown":
                self.job.condition(MACHINE_FITS, condition.status == "True", condition.reason, condition.message)
        return found.fits

    def learn(self, found: act.Preflight) -> None:
        """Remember what does not fit; if that is not known now, what was known before holds."""
        if any(each.type == MACHINE_FITS and each.status != "Unknown" for each in found.conditions):
            self.state.unfit = found.unfit
