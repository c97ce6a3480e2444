"""What the template says about a training's end: a deadline that has passed, a failure that is fatal or not counted."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events, reasons
    from api.failure_policy import failure_rules
    from api.views import PodView
    from workflows.job.policy.deadline import deadline_seconds, exceeded
    from workflows.job.replica.policy.failure import judge_failure

from workflows.common.patches import patched
from workflows.job.replica.life import Part

SOON_SECONDS = 600.0
"""If a training ran this long before an ignored failure, the pauses begin again with the shortest."""


class Terms(Part):
    """Applies ``activeDeadlineSeconds`` and ``podFailurePolicy`` to an end. A proof replica is exempt."""

    async def is_overdue(self) -> bool:
        """True if Kubernetes ended the pod at a deadline. Then the job has failed.

        Only a webhook or an earlier release sets a deadline in a Job. The workflow watches all others itself.
        """
        view = self.me.run.view
        said = {view.job_failed, *(pod.reason for pod in view.pods.values())} if view else set()
        if reasons.DEADLINE_EXCEEDED not in said or self.me.proof or not patched("active-deadline"):
            return False
        await self.life.save_logs(self.me.incarnation)
        self._fail(reasons.DEADLINE_EXCEEDED, exceeded(deadline_seconds(self.job.spec)))
        return True

    def decide(self, pod: PodView | None) -> bool:
        """True if ``podFailurePolicy`` decides: the job has failed, or the training is restarted uncounted."""
        failure = judge_failure(failure_rules(self.job.spec.job_spec), pod) if pod else None
        if failure is None or failure.meaning == "Count" or self.me.proof:
            return False
        if not patched("pod-failure-policy"):
            return False
        if failure.meaning == "FailJob":
            self._fail(reasons.POD_FAILURE_POLICY, failure.why)
        else:
            self._ignore(failure.why)
        return True

    def _fail(self, reason: str, why: str) -> None:
        """Fail the whole job. The VM may be kept, as that of any replica that failed for good."""
        self.me.outcome = "Failed"
        self.job.fail(reason, f"replica {self.me.index}: {why}")
        self.life.enter("Releasing", why)

    def _ignore(self, why: str) -> None:
        """Start again on the same machine, after a pause that grows while the training fails soon."""
        me, soon = self.me, self.life.ran_seconds() < SOON_SECONDS
        self.job.event(events.FAILURE_IGNORED, f"replica {me.index}: {why}", warning=True)
        self.life.replace(why, machine_stays=True)
        me.retry.after_ignored_failure(workflow.now(), self.state.timings.retry, soon=soon)
