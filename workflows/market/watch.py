"""Machines that the cloud preempts: one activity after the other watches all zones in which there are any.

Each lasts some minutes and reads the cloud's operations every few seconds. It tells the VMs by itself, so a market that
nobody asks has little to do.
"""

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import signatures as act
    from workflows.market import memory
    from workflows.policy.backoff import back_off
    from workflows.policy.bounds import bounded

from workflows.common.calls import call, explain
from workflows.common.continue_as_new import is_time_to_go_on
from workflows.market.desk import Desk
from workflows.market.state import Watch

READS = 60
"""How often one watch reads the operations, if that does not take too long: then the market can move to newer code."""


class PreemptionWatch:
    """Keeps every zone with machines watched."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._failures = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Watch until the run ends. An activity under way outlives the run, and the next run waits for its end."""
        for inherited in self._desk.state.watches:
            self._begin(self._outlive(inherited))
        while True:
            await workflow.wait_condition(lambda: bool(self._unwatched()))
            zones, now = self._unwatched(), workflow.now()
            watch = Watch(zones=zones, until=self._end(now))
            self._desk.state.watches.append(watch)
            self._begin(self._watch(watch, now))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def _every(self) -> float:
        return bounded(self._desk.timings.preempted_poll)

    def _unwatched(self) -> list[str]:
        if not self._every or is_time_to_go_on():  # an activity that is scheduled by a run's last task never begins
            return []
        watched = {zone for watch in self._desk.state.watches for zone in watch.zones}
        return [zone for zone in memory.zones_with_machines(self._desk.state) if zone not in watched]

    def _end(self, now: datetime) -> datetime:
        """Return when a watch that begins now ends: with the others, so that one watch follows them all."""
        ends = max((watch.until for watch in self._desk.state.watches), default=now)
        whole = now + timedelta(seconds=min(READS * self._every, act.WATCH_SECONDS))
        return ends if now + timedelta(seconds=self._every) < ends < whole else whole

    async def _watch(self, watch: Watch, began: datetime) -> None:
        state = self._desk.state
        askers = memory.askers(state, watch.zones)
        request = act.WatchPreempted(
            project=self._desk.project,
            zones=watch.zones,
            since=memory.looked_at(state, watch.zones, began),
            told=state.told,
            askers=[act.Asker(namespace=namespace, credentials=credentials) for namespace, credentials in askers],
            every=self._every,
            seconds=(watch.until - began).total_seconds(),
        )
        try:
            found = await call(act.WATCH_PREEMPTED, request, summary=f"preempted in {', '.join(watch.zones)}?")
            memory.watched(state, found.looked_at, found.told)
            self._failures = 0
        except ActivityError as error:
            self._failures += 1
            workflow.logger.warning("preempted operations: %s", explain(error)[1])
        # It may have ended early: with its worker, or because it cannot be carried out.
        again = began + back_off(max(1, self._failures), self._every)
        if workflow.now() < again:
            await workflow.sleep(again - workflow.now())
        state.watches.remove(watch)

    async def _outlive(self, inherited: Watch) -> None:
        """Wait for the end of a watch that the run before began. Its result reaches nobody."""
        left = inherited.until - workflow.now()
        if left > timedelta(0):
            await workflow.sleep(left)
        self._desk.state.watches.remove(inherited)
