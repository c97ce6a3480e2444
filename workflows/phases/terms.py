"""What the template says of a training's end: a deadline that has passed, a failure that is fatal or not counted."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.failure_policy import DEADLINE_EXCEEDED, POD_FAILURE_POLICY, failure_rules
    from api.views import PodView
    from workflows.policy.backoff import back_off
    from workflows.policy.deadline import deadline_seconds, exceeded
    from workflows.policy.failure import judge_failure

from workflows.phases.life import Part

SOON_SECONDS = 600.0
"""A training that ran this long before a failure that is ignored starts over with the shortest pause."""


class Terms(Part):
    """``activeDeadlineSeconds`` and ``podFailurePolicy``, when a pod has ended. A replica that is a proof has none."""

    async def is_overdue(self) -> bool:
        """True if Kubernetes ended the pod at a deadline: then the job has failed.

        That is one of a Job that an earlier release made, or of a webhook; other deadlines the workflow keeps itself.
        """
        view = self.me.view
        said = {view.job_failed, view.pod.reason if view.pod else None} if view else set()
        if DEADLINE_EXCEEDED not in said or self.me.proof or not workflow.patched("active-deadline"):
            return False
        await self.life.save_logs(self.me.incarnation)
        self._fail(DEADLINE_EXCEEDED, exceeded(deadline_seconds(self.job.spec)))
        return True

    def decide(self, pod: PodView | None) -> bool:
        """True if podFailurePolicy says what a failure means: the job has failed, or it is tried again uncounted."""
        failure = judge_failure(failure_rules(self.job.spec.job_spec), pod) if pod else None
        if failure is None or failure.meaning == "Count" or self.me.proof:
            return False
        if not workflow.patched("pod-failure-policy"):
            return False
        if failure.meaning == "FailJob":
            self._fail(POD_FAILURE_POLICY, failure.why)
        else:
            self._ignore(failure.why)
        return True

    def _fail(self, reason: str, why: str) -> None:
        """Fail the whole job; the machine may be kept, as that of any replica that failed for good."""
        self.me.outcome = "Failed"
        self.job.fail(reason, f"replica {self.me.index}: {why}")
        self.life.enter("Releasing", why)

    def _ignore(self, why: str) -> None:
        """Start again on the machine it has, after a pause that grows as long as it fails soon."""
        me = self.me
        me.ignored = me.ignored + 1 if self.life.ran_seconds() < SOON_SECONDS else 1
        self.job.event("FailureIgnored", f"replica {me.index}: {why}", warning=True)
        self.life.replace(why, machine_stays=True)
        me.retry_at = workflow.now() + back_off(me.ignored, self.state.timings.retry)
