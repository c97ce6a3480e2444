"""``spec.outputs``: the files of a training that has ended are uploaded before its machine goes.

Of a gang those of its first member are uploaded: it is the one that writes a model for all.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from api import conditions, errors, events, reasons

from workflows.common.calls import call, explain
from workflows.job.replica.life import Part

NOT_BOUGHT = (
    "its node was not bought, so it cannot be reached by SSH: mount a PersistentVolumeClaim there, or let the training "
    "upload its outputs itself"
)


class Outputs(Part):
    """Uploads the outputs of one replica before its machine is released."""

    async def save(self) -> bool:
        """Upload the outputs within the time that the timings allow. False if the run ends before that."""
        if self.me.outputs_done or not self.job.spec.outputs or self.me.outcome is None or not self.me.run.live:
            return True
        why = (reasons.TOOK_TOO_LONG, "they were not uploaded in time")
        while not self._given_up():
            request = self._request()
            if request is None:
                why = (
                    (reasons.NOT_BOUGHT, NOT_BOUGHT)
                    if not self.me.place.bought
                    else (reasons.MACHINE_GONE, "its machine is gone")
                )
                break
            try:
                saved = await call(act.SAVE_OUTPUTS, request, summary=f"upload the outputs of replica {self.me.index}")
            except ActivityError as error:
                why = explain(error)
                if why[0] != errors.TRANSIENT:
                    break
                saved = act.SavedOutputs(done=False)
            if saved.done:
                self._saved(saved)
                return True
            self.life.say("uploading its outputs")
            pause = self.job.after(self.state.timings.retry if not saved.files else 0.0)
            await self.job.until(self._given_up, pause, f"replica {self.me.index}: the next upload of its outputs")
            if self.job.parking:
                return False
        self.me.outputs_done = True
        message = f"outputs of replica {self.me.index}: {why[1]}"
        self.job.condition(conditions.OUTPUTS_SAVED, False, why[0], message)
        self.job.event(events.OUTPUTS_NOT_SAVED, message, warning=True)
        return True

    def _given_up(self) -> bool:
        late = workflow.now() >= self.me.since + timedelta(seconds=self.state.timings.outputs)
        return late or self.state.shutdown is not None or self.nodes.failed(self.me.place.first.vm_key)

    def _request(self) -> act.SaveOutputs | None:
        spec, vm_spec = self.job.spec, self.state.vm_spec
        vm, storage = self.machines.ref_of(self.me.place.first.vm_key), spec.checkpoint_config.checkpoint_storage
        bought = self.state.vm(self.me.place.first.vm_key)
        if vm is None or bought is None or vm_spec is None or storage is None:
            return None
        known = bought.ssh_user is not None  # earlier releases did not record it
        return act.SaveOutputs(
            ref=self.life.ref(),
            paths=spec.outputs,
            storage=storage,
            cloud=spec.gcp_credentials_secret_ref,
            vm=vm,
            ssh_user=bought.ssh_user or vm_spec.ssh_user,
            ssh_key=bought.ssh_key if known else vm_spec.ssh_key_secret_ref,
            ssh_access=bought.ssh_access,
        )

    def _saved(self, saved: act.SavedOutputs) -> None:
        self.me.outputs_done = True
        storage = self.job.spec.checkpoint_config.checkpoint_storage
        place = f"{storage.bucket}/{saved.location}" if storage else saved.location
        message = f"{saved.files} files of replica {self.me.index} ({saved.total_bytes} bytes) in {place}"
        if saved.files:
            self.job.condition(conditions.OUTPUTS_SAVED, True, reasons.UPLOADED, message)
            self.job.event(events.OUTPUTS_SAVED, message)
            return
        nothing = f"replica {self.me.index} has left no files at {', '.join(self.job.spec.outputs)}"
        self.job.condition(
            conditions.OUTPUTS_SAVED,
            False,
            reasons.NOTHING_FOUND,
            f"{nothing}: only the containers' own files are uploaded",
        )
        self.job.event(events.OUTPUTS_NOT_SAVED, nothing, warning=True)
