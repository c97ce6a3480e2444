"""Serving certificates for the VM's Node, answered beside the stages so that they do not delay them."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.policy.backoff import back_off

from workflows.common.calls import call, explain
from workflows.common.patches import patched
from workflows.vm.machine import Part

LIVING = frozenset({"Joining", "Registering", "Ready", "Noticed"})
"""The stages in which a Node may exist whose VM runs."""

SECONDS = 2.0
"""The seconds between two answers: a kubelet that asks again and again must not fill this workflow's history."""


class Certificates(Part):
    """Answers the requests by which the Node's kubelet asks the cluster to sign a certificate."""

    async def answer(self) -> None:
        """Answer requests until the workflow ends. The state says which ones are left for the next run."""
        failures = 0
        while True:
            await workflow.wait_condition(self._asked)
            asked = self.state.certificates_asked
            if not patched("certificates"):
                # An older release received this signal from a newer bridge and ignored it. The kubelet asks again.
                self.state.certificates_answered = asked
                continue
            try:
                await call(act.ANSWER_CERTIFICATES, self._request(), summary=f"certificates of {self.machine.name}")
                self.state.certificates_answered, failures = asked, 0
            except ActivityError as error:
                failures += 1
                workflow.logger.warning("certificates of %s: %s", self.machine.name, explain(error)[1])
            pause = back_off(failures, self.timings.retry) if failures else timedelta(seconds=SECONDS)
            await workflow.sleep(pause)

    def _asked(self) -> bool:
        return self.state.certificates_asked > self.state.certificates_answered and self.state.stage in LIVING

    def _request(self) -> act.AnswerCertificates:
        start = self.start
        job = act.JobRef(namespace=start.namespace, name=start.job_name, uid=start.job_uid, job_id=start.job_id)
        return act.AnswerCertificates(job=job, vm=self.machine.vm_ref())
