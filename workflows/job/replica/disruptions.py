"""Disruptions and failures after which the machine stays up: counted, reported, and if repeated the machine is left."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from api import events
    from api.views import evicted_by_api
    from workflows.job.replica.policy.ends import (
        End,
        Kind,
        after_a_good_run,
        count,
        good_after,
        leaves,
        left,
        ran_well,
    )

from workflows.common.patches import patched
from workflows.job.replica.life import Part

SHUN = timedelta(hours=1)
"""How long a replica avoids a node of the cluster on which its pods ended again and again."""

MOST_SHUNNED = 8
"""How many nodes a replica avoids at most."""


class Disruptions(Part):
    """Decides what becomes of a replica whose pod has ended while its machine stays up."""

    @property
    def counts(self) -> bool:
        """True unless this run began on a release that did not count ends."""
        return patched("ends-that-leave-the-machine")

    async def disrupted(self, why: str) -> None:
        """Start the replica again, on its machine or elsewhere, after somebody took its pod away."""
        if not self.counts:
            self.life.preempted(why, machine_stays=True)
            return
        end = self._end("Disrupted", why)
        if self._goes(end) and (not await self._has_stopped() or self.life.lost_place()):
            return
        self.me.disruptions += 1
        leave = self._count(end)
        members = self.me.place.on_node(end.node)
        keys = [seat.vm_key for seat in self.me.place.of_members(members)]
        self.job.event(events.PREEMPTED, f"replica {self.me.index} on {self.me.place.names}: {why}", warning=True)
        self.life.replace(why, machine_stays=not leave, announce=False, members=members)
        if leave:
            await self._leave(end, keys)
        elif self.me.ends.machines:
            self.life.back_off(why)

    async def failed(self, why: str) -> None:
        """Count a failure of the training. After the second in a row the machine is left, which may be at fault."""
        if not self.counts or self.me.restarts >= self.job.spec.restarts_allowed:
            self.life.failed_by_itself(why)
            return
        end = self._end("Failed", why)
        members = self.me.place.on_node(end.node)
        keys = [seat.vm_key for seat in self.me.place.of_members(members)]
        leave = self._count(end)
        self.life.failed_by_itself(why, machine_stays=not leave, members=members)
        if leave and self.me.outcome is None:
            await self._leave(end, keys)

    def never_ran(self, why: str) -> tuple[End, bool]:
        """Return the end of a pod that never ran, which is not counted yet, and whether its machine has to be left."""
        end = self._end("NeverRan", why)
        return end, self.counts and self._goes(end)

    def count_never_ran(self, end: End) -> None:
        """Count the end of a pod that never ran. Call it after all that may fail, which is then retried uncounted."""
        if self.counts and self._count(end):
            self._back_off(end)
        else:
            self.life.back_off(end.why)

    # --- afterwards

    def well_at(self) -> datetime | None:
        """Return when the replica will have run well; None if it has had no disruption or failure."""
        if not self.me.ends.recent or self.me.run.running_since is None:
            return None
        return self.me.run.running_since + timedelta(seconds=good_after(saved=self._saved()))

    def forget_if_well(self) -> None:
        """Forget the ends in a row once the replica has run well."""
        if not self.me.ends.recent or self.me.run.running_since is None:
            return
        seconds = (workflow.now() - self.me.run.running_since).total_seconds()
        if ran_well(seconds, saved=self._saved()):
            self.me.ends = after_a_good_run(self.me.ends)
            self.job.touch()

    def _back_off(self, end: End) -> None:
        """Delay the purchase of the next machine: longer each time if the ones before did not help either."""
        self._shun(end.node)
        self.me.retry.count_machines(self.me.ends.machines)
        self.life.back_off(end.why, in_vain=True)

    # --- parts

    def _end(self, kind: Kind, why: str) -> End:
        disruption = self.me.run.disruption if kind != "Failed" else None
        unfit = any(node.unfit for node in self.state.nodes_under(self.me))
        leave = "Drained" if self._is_drained() else "Unfit" if unfit else ""
        return End(kind=kind, node=self._node(), why=why, disruption=disruption, leave=leave)

    def _node(self) -> str:
        """Return the node on which it ended; of a gang that of the member by which it is judged."""
        pod, first = self.life.decisive_pod, self.me.place.first.node or ""
        return pod.node if self.me.place.is_gang and pod is not None and pod.node else first

    def _goes(self, end: End) -> bool:
        return leaves(count(self.me.ends, end), end)

    def _count(self, end: End) -> bool:
        """Count an end, and report it if the machine is left. True if it is."""
        self.me.ends = count(self.me.ends, end)
        leave = leaves(self.me.ends, end)
        if leave:
            self.me.ends = left(self.me.ends, end)
            self.job.event(
                events.LEAVES_MACHINE,
                f"replica {self.me.index} leaves {end.node}{self._because(end)}: {end.why}",
                warning=True,
            )
        self.job.touch()
        return leave

    def _because(self, end: End) -> str:
        node = self.state.nodes.get(end.node)
        if end.leave == "Unfit" and node is not None:
            return f", which is {', '.join(node.unfit)}"
        return ", which is being drained" if end.leave else ""

    async def _leave(self, end: End, keys: list[str | None]) -> None:
        """Release the machine, and look for another one after a back-off."""
        await self.machines.release_each(keys, end.leave or "EndsAgainAndAgain")
        self._back_off(end)

    async def _has_stopped(self) -> bool:
        """Wait for a pod that is being deleted, before its machine goes. False if the run ends before that."""

        def stopped() -> bool:
            return all(pod.ended for pod in self.me.run.pods.values()) or self.life.machine_lost()

        deadline = self.me.since + timedelta(seconds=self.state.timings.pod_stop)
        await self.life.until(stopped, deadline, f"replica {self.me.index}: the end of its pod")
        return not self.job.parking

    def _is_drained(self) -> bool:
        """True if somebody drains the machine: the pod was evicted from a bought VM, or from a cordoned node.

        Outlast itself cordons a bought Node, so only the eviction shows that somebody drains it.
        """
        if not evicted_by_api(self.me.run.disruption):
            return False
        return self.me.place.bought or any(not node.schedulable for node in self.state.nodes_under(self.me))

    def _saved(self) -> bool:
        """True if this incarnation has made a restore point. In mode Application that is left to the training."""
        mine = f"{self.me.index}.{self.me.incarnation}"
        return not self.checkpoints.takes_images or any(point.lineage == mine for point in self.state.points)

    def _shun(self, node: str) -> None:
        now = workflow.now()
        kept = {name: until for name, until in self.me.place.shunned.items() if until > now and name != node}
        self.me.place.shunned = dict([*kept.items(), (node, now + SHUN)][-MOST_SHUNNED:])
