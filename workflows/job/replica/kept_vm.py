"""``keepFailedFor``: the VM of a replica that failed for good is kept for a while, for people to look at."""

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events
    from api.duration import parse_duration

from workflows.job.replica.life import Part


class KeptVm(Part):
    """Keeps the VM of one replica before it is released."""

    async def keep(self) -> bool:
        """Wait as long as the VM is to be kept. False if the run ends before that."""
        while not self.job.parking and (until := self._until()) is not None:
            if self.me.kept_until is None:
                self.job.event(events.KEPT, f"replica {self.me.index}: {self._how_to_get_in(until)}")
            self.me.kept_until = until
            self.life.say(self._how_to_get_in(until))
            await self.job.until(
                lambda seen=until: self._until() != seen,  # type: ignore[misc]
                until,
                f"replica {self.me.index}: {self.me.place.names} is kept for people to look at",
            )
        if self.job.parking:
            return False
        if self.me.kept_until is not None:
            self.me.kept_until = None
            self.life.say("was kept for people to look at")
        return True

    def _until(self) -> datetime | None:
        """Return until when to keep the VM, as the spec now says; None if that is over or there is nothing to keep."""
        duration = self.job.spec.keep_failed_for
        if self.me.outcome != "Failed" or duration is None or not self.me.place.bought:
            return None
        if self.state.shutdown or self.job.spec.suspend or all(self.nodes.failed(key) for key in self.me.place.vm_keys):
            return None
        until = self.me.since + parse_duration(duration)
        return until if workflow.now() < until else None

    def _how_to_get_in(self, until: datetime) -> str:
        vms = self.state.vms_under(self.me)
        node, report = self.me.place.first.node, vms[0].report if vms else None
        ways = [f"kubectl debug node/{node} -it --image=busybox"]
        if report and report.vm_name and report.zone and self.state.vm_spec:
            project = self.state.vm_spec.gcp.project
            ways.insert(0, f"gcloud compute ssh {report.vm_name} --zone {report.zone} --project {project}")
        return (
            f"its VM is kept until {until:%Y-%m-%dT%H:%M:%SZ}: {' or '.join(ways)}; "
            "it goes at once when the job is deleted"
        )
