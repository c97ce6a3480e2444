"""The back-off after a failed step: until its time, until somebody corrects the cause, or until the machine is lost."""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.common.calls import call, explain
from workflows.job.replica.life import Part


class BackOff(Part):
    """Waits before a failed step of one replica is retried."""

    async def wait(self) -> None:
        """Wait until the step may be retried, the machine is lost, or a person has corrected something."""
        lost, wanted, template = self.life.machine_lost(), self.state.vm_spec, self.job.spec.job_template
        config = self.job.spec.checkpoint_config
        while self.me.retry.at and not self.job.parking:
            edited = await self.life.until(
                lambda: (
                    (self.life.machine_lost() and not lost)
                    or self.state.vm_spec != wanted
                    or self.job.spec.job_template != template
                    or (self.me.run.blocked_since is not None and self.job.spec.checkpoint_config != config)
                ),
                self._next_check(self.me.retry.at),
                f"back-off after: {self.me.message}",
            )
            if edited or not self._checks:
                break
            missing = await self._is_missing()
            if missing is False or (workflow.now() >= self.me.retry.at and missing is None):
                break

    def _next_check(self, retry_at: datetime) -> datetime:
        """Return the end of this wait: the retry or the next check of the cause. A cause that still exists decides."""
        check = self.job.after(self.state.timings.cause_check)
        if not self._checks:
            return retry_at
        return check if self.me.blocker and self.me.blocker.seen else min(retry_at, check)

    @property
    def _checks(self) -> bool:
        """True if nothing is bought because a pod did not run, so that the cause is checked meanwhile."""
        return self.me.blocker is not None and not self.me.place.has_machine

    async def _is_missing(self) -> bool | None:
        """True while a check finds the cause, False once it is gone, None if unknown.

        If the first check finds nothing wrong, it does not know the cause.
        """
        blocker = self.me.blocker
        if blocker is None:
            return None
        config = self.job.spec.checkpoint_config
        request = act.FindCause(
            job=self.job.ref,
            job_template=self.job.spec.job_template,
            reason=blocker.reason,
            restore=self.me.run.restore,
            image_pull=config.checkpoint_repo_credential_ref,
            checkpoint_image_repo=config.checkpoint_image_repo,
            cloud_credentials=self.job.spec.gcp_credentials_secret_ref,
        )
        summary = f"replica {self.me.index}: is its pod still blocked ({blocker.reason})?"
        try:
            found = await call(act.FIND_CAUSE, request, summary=summary)
        except ActivityError as error:
            workflow.logger.warning("cause of %s: %s", blocker.reason, explain(error)[1])
            return None
        if found.missing:
            blocker.seen = True
            message = f"{found.missing}; the next VM is bought as soon as that is corrected"
            self.life.pod_starts.fails(self.me, blocker.reason, message)
            self.life.say(message)
            return True
        return False if blocker.seen and found.known else None
