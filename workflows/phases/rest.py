"""The rest after a step that failed: until its time, until somebody corrects the cause, or its machine is lost."""

from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.calls import call, explain
from workflows.phases.life import Part


class Rest(Part):
    """The rest of one replica."""

    async def run(self) -> None:
        """Wait. What a person corrects is taken up at once: an edit, or the thing that was missing."""
        lost, wanted, template = self.life.machine_lost(), self.state.vm_spec, self.job.spec.job_template
        config = self.job.spec.checkpoint_config
        while self.me.retry_at and not self.job.parking:
            edited = await self.life.until(
                lambda: (
                    (self.life.machine_lost() and not lost)
                    or self.state.vm_spec != wanted
                    or self.job.spec.job_template != template
                    or (self.me.hindered_since is not None and self.job.spec.checkpoint_config != config)
                ),
                self._next_look(self.me.retry_at),
                f"back-off after: {self.me.message}",
            )
            if edited or not self._looks:
                break
            missing = await self._is_missing()
            if missing is False or (workflow.now() >= self.me.retry_at and missing is None):
                break

    def _next_look(self, retry_at: datetime) -> datetime:
        """Compute the end of the wait; while the cause is seen to last, that is the next look at it."""
        look = self.job.after(self.state.timings.cause_check)
        if not self._looks:
            return retry_at
        return look if self.me.trouble and self.me.trouble.seen else min(retry_at, look)

    @property
    def _looks(self) -> bool:
        """True if nothing is bought because a pod did not run, so that its cause is looked at meanwhile."""
        return self.me.trouble is not None and self.me.vm_key is None and self.me.node is None

    async def _is_missing(self) -> bool | None:
        """True as long as the cause is seen to be there, False once it is gone, None if nobody can tell.

        A look that finds nothing wrong at its first try does not know the cause.
        """
        trouble = self.me.trouble
        if trouble is None:
            return None
        config = self.job.spec.checkpoint_config
        request = act.FindCause(
            job=self.job.ref,
            job_template=self.job.spec.job_template,
            reason=trouble.reason,
            restore=self.me.restore,
            image_pull=config.checkpoint_repo_credential_ref,
            checkpoint_image_repo=config.checkpoint_image_repo,
            cloud_credentials=self.job.spec.gcp_credentials_secret_ref,
        )
        summary = f"replica {self.me.index}: is what kept its pod from running still so ({trouble.reason})?"
        try:
            found = await call(act.FIND_CAUSE, request, summary=summary)
        except ActivityError as error:
            workflow.logger.warning("cause of %s: %s", trouble.reason, explain(error)[1])
            return None
        if found.missing:
            trouble.seen = True
            message = f"{found.missing}; the next VM is bought as soon as that is corrected"
            self.life.starts.fails(self.me, trouble.reason, message)
            self.life.say(message)
            return True
        return False if trouble.seen and found.known else None
