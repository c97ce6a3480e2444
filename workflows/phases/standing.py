"""Ends that leave the machine standing: told, counted, and after the second in a row answered on another machine."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api.views import evicted_by_api
    from workflows.policy.standing import End, Kind, after_a_good_run, count, good_after, leaves, left, ran_well

from workflows.phases.life import Part

SHUN = timedelta(hours=1)
"""How long a replica keeps away from a node of the cluster on which its pods ended again and again."""
MOST_SHUNNED = 8


class Standing(Part):
    """What becomes of a replica whose pod has ended on a machine that stands."""

    @property
    def counts(self) -> bool:
        """False in histories of workers that did not count."""
        return workflow.patched("ends-that-leave-the-machine")

    async def disrupted(self, why: str) -> None:
        """Start again where it is, or elsewhere, after somebody took its pod away."""
        if not self.counts:
            self.life.preempted(why, machine_stays=True)
            return
        end = self._end("Disrupted", why)
        if self._goes(end) and (not await self._has_stopped() or self.life.lost_place()):
            return
        self.me.disruptions += 1
        leave = self._count(end)
        key = self.me.vm_key
        self.job.event("Preempted", f"replica {self.me.index} on {self.me.node}: {why}", warning=True)
        self.life.replace(why, machine_stays=not leave, announce=False)
        if leave:
            await self._leave(end, key)
        elif self.me.ends.machines:
            self.life.back_off(why)

    async def failed(self, why: str) -> None:
        """Count a failure of the training; the second in a row on one machine may be the machine's fault."""
        if not self.counts or self.me.restarts >= self.job.spec.restarts_allowed:
            self.life.failed_by_itself(why)
            return
        end, key = self._end("Failed", why), self.me.vm_key
        leave = self._count(end)
        self.life.failed_by_itself(why, machine_stays=not leave)
        if leave and self.me.outcome is None:
            await self._leave(end, key)

    def never_ran(self, why: str) -> tuple[End, bool]:
        """Give the end of a pod that never ran, which is still to be counted, and whether its machine is to be left."""
        end = self._end("NeverRan", why)
        return end, self.counts and self._goes(end)

    def count_never_ran(self, end: End) -> None:
        """Count it, once its Job is deleted: a step that fails on the way is taken again."""
        if self.counts and self._count(end):
            self.rest(end)
        else:
            self.life.back_off(end.why)

    # --- afterwards

    def well_at(self) -> datetime | None:
        """Compute when the present run will have shown that the trouble is over; None if there was none."""
        if not self.me.ends.recent or self.me.running_since is None:
            return None
        return self.me.running_since + timedelta(seconds=good_after(saved=self._saved()))

    def see(self) -> None:
        """Forget the ends in a row once the replica has run well."""
        if not self.me.ends.recent or self.me.running_since is None:
            return
        seconds = (workflow.now() - self.me.running_since).total_seconds()
        if ran_well(seconds, saved=self._saved()):
            self.me.ends = after_a_good_run(self.me.ends)
            self.job.touch()

    def rest(self, end: End) -> None:
        """Wait before the next machine is bought: ever longer, if the ones before did not help either."""
        self._shun(end.node)
        self.me.in_vain = max(self.me.in_vain, self.me.ends.machines - 1)
        self.life.back_off(end.why, in_vain=True)

    # --- parts

    def _end(self, kind: Kind, why: str) -> End:
        said = self.me.disruption if kind != "Failed" else None
        node = self.state.nodes.get(self.me.node or "")
        leave = "Drained" if self._is_drained() else "Unfit" if node is not None and node.unfit else ""
        return End(kind=kind, node=self.me.node or "", why=why, disruption=said, leave=leave)

    def _goes(self, end: End) -> bool:
        return leaves(count(self.me.ends, end), end)

    def _count(self, end: End) -> bool:
        """Count the end, tell people, and say whether its machine is left."""
        self.me.ends = count(self.me.ends, end)
        leave = leaves(self.me.ends, end)
        if leave:
            self.me.ends = left(self.me.ends, end)
            self.job.event(
                "LeavesMachine",
                f"replica {self.me.index} leaves {end.node}{self._because(end)}: {end.why}",
                warning=True,
            )
        self.job.touch()
        return leave

    def _because(self, end: End) -> str:
        node = self.state.nodes.get(end.node)
        if end.leave == "Unfit" and node is not None:
            return f", which is {', '.join(node.unfit)}"
        return ", which is drained" if end.leave else ""

    async def _leave(self, end: End, key: str | None) -> None:
        """Let go of the machine, and seek another one after a rest."""
        await self.machines.release(key, end.leave or "EndsAgainAndAgain")
        self.rest(end)

    async def _has_stopped(self) -> bool:
        """Wait for a pod that is being deleted, before its machine goes; False if the job parks first."""

        def stopped() -> bool:
            pod = self.me.view.pod if self.me.view else None
            return pod is None or pod.phase in {"Succeeded", "Failed"} or self.life.machine_lost()

        deadline = self.me.since + timedelta(seconds=self.state.timings.pod_stop)
        await self.life.until(stopped, deadline, f"replica {self.me.index}: its pod to have stopped")
        return not self.job.parking

    def _is_drained(self) -> bool:
        """True if somebody drains the machine: an eviction from a VM that is the job's, or from a cordoned node.

        A bought Node is cordoned by Outlast already, so ``kubectl drain`` of it is seen by the eviction alone.
        """
        if not evicted_by_api(self.me.disruption):
            return False
        node = self.state.nodes.get(self.me.node or "")
        return self.me.vm_key is not None or (node is not None and not node.schedulable)

    def _saved(self) -> bool:
        """True if this run left something to go on from; in mode Application the training sees to that."""
        mine = f"{self.me.index}.{self.me.incarnation}"
        return not self.checkpointing.takes_images or any(point.lineage == mine for point in self.state.points)

    def _shun(self, node: str) -> None:
        now = workflow.now()
        kept = {name: until for name, until in self.me.shunned.items() if until > now and name != node}
        self.me.shunned = dict([*kept.items(), (node, now + SHUN)][-MOST_SHUNNED:])
