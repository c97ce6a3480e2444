"""``spec.outputs``: the files of a training that has ended are uploaded before its machines go.

Of a gang each member's files are uploaded, those of the first ones first and a few machines at a time.
"""

import asyncio
from collections.abc import Mapping
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

AT_ONCE = 8
"""How many machines of a gang upload at the same time."""

Failure = tuple[str, str]
"""The reason and the message of outputs that were not uploaded."""


class Outputs(Part):
    """Uploads the outputs of one replica before its machines are released."""

    async def save(self) -> bool:
        """Upload the outputs within the time that the timings allow. False if the run ends before that."""
        if self.me.outputs_done or not self.job.spec.outputs or self.me.outcome is None or not self.me.run.live:
            return True
        few = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(self._save_member(member, few) for member in self.me.members))
        if any(each is None for each in found):
            return False
        self.me.outputs_done = True
        saved = [each for each in found if isinstance(each, act.SavedOutputs)]
        failures = {member: each for member, each in enumerate(found) if isinstance(each, tuple)}
        if failures:
            self._not_saved(failures, saved)
        else:
            self._saved(saved)
        return True

    async def _save_member(self, member: int, few: asyncio.Semaphore) -> act.SavedOutputs | Failure | None:
        """Upload the outputs of one member. None if the run ends before that."""
        async with few:
            why = (reasons.TOOK_TOO_LONG, "they were not uploaded in time")
            while not self._given_up(member):
                if self.job.parking:
                    return None
                request = self._request(member)
                if request is None:
                    return self._no_machine(member)
                try:
                    summary = f"upload the outputs of replica {self.me.index}{self._which(member)}"
                    saved = await call(act.SAVE_OUTPUTS, request, summary=summary)
                except ActivityError as error:
                    why = explain(error)
                    if why[0] != errors.TRANSIENT:
                        return why
                    saved = act.SavedOutputs(done=False)
                if saved.done:
                    return saved
                self.life.say("uploading its outputs")
                pause = self.job.after(self.state.timings.retry if not saved.files else 0.0)
                waits_for = f"replica {self.me.index}: the next upload of its outputs"
                await self.job.until(lambda: self._given_up(member), pause, waits_for)
                if self.job.parking:
                    return None
            return why

    def _no_machine(self, member: int) -> Failure:
        if self.me.place.seats[member].vm_key is None:
            return reasons.NOT_BOUGHT, NOT_BOUGHT
        return reasons.MACHINE_GONE, "its machine is gone"

    def _which(self, member: int) -> str:
        return f", member {member}" if self._is_of_gang else ""

    @property
    def _is_of_gang(self) -> bool:
        """True if each member's outputs have a place of their own, even if only one member is left."""
        return self.job.spec.members > 1

    def _given_up(self, member: int) -> bool:
        late = workflow.now() >= self.me.since + timedelta(seconds=self.state.timings.outputs)
        return late or self.state.shutdown is not None or self.nodes.failed(self.me.place.seats[member].vm_key)

    def _request(self, member: int) -> act.SaveOutputs | None:
        spec, vm_spec, key = self.job.spec, self.state.vm_spec, self.me.place.seats[member].vm_key
        vm, storage = self.machines.ref_of(key), spec.checkpoint_config.checkpoint_storage
        bought = self.state.vm(key)
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
            member=member if self._is_of_gang else None,
        )

    def _not_saved(self, failures: Mapping[int, Failure], saved: list[act.SavedOutputs]) -> None:
        causes: dict[str, list[str]] = {}
        for member, (_, cause) in failures.items():
            causes.setdefault(cause, []).append(str(member))
        gang = self._is_of_gang
        told = [f"members {', '.join(members)}: {cause}" if gang else cause for cause, members in causes.items()]
        kept = f"; {sum(each.files for each in saved)} files of the others are uploaded" if saved else ""
        message = f"outputs of replica {self.me.index}: {'; '.join(told)}{kept}"
        reason = next(iter(failures.values()))[0]
        self.job.condition(conditions.OUTPUTS_SAVED, False, reason, message)
        self.job.event(events.OUTPUTS_NOT_SAVED, message, warning=True)

    def _saved(self, saved: list[act.SavedOutputs]) -> None:
        storage, location = self.job.spec.checkpoint_config.checkpoint_storage, saved[0].location
        if self._is_of_gang:
            location = location.rpartition("/")[0]  # that of all members
        place = f"{storage.bucket}/{location}" if storage else location
        files, size = sum(each.files for each in saved), sum(each.total_bytes for each in saved)
        message = f"{files} files of replica {self.me.index} ({size} bytes) in {place}"
        if files:
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
