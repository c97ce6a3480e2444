"""``spec.outputs``: before the machine of a training that has ended goes, what it has left there is uploaded."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act

from workflows.calls import call, explain
from workflows.phases.life import Part

CONDITION = "OutputsSaved"
NOT_BOUGHT = (
    "its node is the cluster's own, which is not reached by SSH: mount a PersistentVolumeClaim there, or let the "
    "training upload its outputs itself"
)


class Outputs(Part):
    """Before Releasing lets go of a machine."""

    async def save(self) -> bool:
        """Upload, for so long at most as the timings allow; False where the job parks before that."""
        if self.me.outputs_done or not self.job.spec.outputs or self.me.outcome is None or not self.me.live:
            return True
        why = ("TookTooLong", "they were not uploaded in time")
        while not self._given_up():
            request = self._request()
            if request is None:
                why = ("NotBought", NOT_BOUGHT) if self.me.vm_key is None else ("MachineGone", "its machine is gone")
                break
            try:
                saved = await call(act.SAVE_OUTPUTS, request, summary=f"upload the outputs of replica {self.me.index}")
            except ActivityError as error:
                why = explain(error)
                if why[0] != "Transient":
                    break
                saved = act.SavedOutputs(done=False)
            if saved.done:
                self._saved(saved)
                return True
            self.life.say("uploads its outputs")
            pause = self.job.after(self.state.timings.retry if not saved.files else 0.0)
            await self.job.until(self._given_up, pause, f"replica {self.me.index}: its outputs")
            if self.job.parking:
                return False
        self.me.outputs_done = True
        message = f"outputs of replica {self.me.index}: {why[1]}"
        self.job.condition(CONDITION, False, why[0], message)
        self.job.event("OutputsNotSaved", message, warning=True)
        return True

    def _given_up(self) -> bool:
        late = workflow.now() >= self.me.since + timedelta(seconds=self.state.timings.outputs)
        return late or self.state.shutdown is not None or self.nodes.failed(self.me.vm_key)

    def _request(self) -> act.SaveOutputs | None:
        spec, vm_spec = self.job.spec, self.state.vm_spec
        vm, storage = self.machines.ref_of(self.me.vm_key), spec.checkpoint_config.checkpoint_storage
        bought = self.state.vms.get(self.me.vm_key or "")
        if vm is None or bought is None or vm_spec is None or storage is None:
            return None
        known = bought.ssh_user is not None  # an earlier release did not keep it
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
        where = f"{storage.bucket}/{saved.location}" if storage else saved.location
        message = f"{saved.files} files of replica {self.me.index} ({saved.total_bytes} bytes) in {where}"
        if saved.files:
            self.job.condition(CONDITION, True, "Uploaded", message)
            self.job.event("OutputsSaved", message)
            return
        nothing = f"replica {self.me.index} has left no files at {', '.join(self.job.spec.outputs)}"
        self.job.condition(CONDITION, False, "NothingFound", f"{nothing}: only its own file system is looked into")
        self.job.event("OutputsNotSaved", nothing, warning=True)
