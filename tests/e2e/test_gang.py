"""A training on three machines loses one of them, with a notice and without, and goes on as a whole."""

from __future__ import annotations

import pytest

from sandbox.demo.observer import Json
from tests.e2e.gangs import Members, complete, saves
from tests.e2e.rig import CREDENTIALS, Rig, machine
from tests.e2e.test_saves_itself import application

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]

SIZE = 3


def gang(rig: Rig, **environment: object) -> Json:
    manifest = application(rig, **environment)
    manifest["spec"]["gang"] = {"minSize": SIZE, "maxSize": SIZE}
    return manifest


async def test_a_gang_loses_machines_one_by_one_and_goes_on_together(rig: Rig, namespace: str) -> None:
    # Members that wait for one whose machine is gone ignore SIGTERM: each such end takes all of their grace.
    manifest = gang(rig, SANDBOX_STEPS=300, SANDBOX_SAVE_EVERY=40)
    manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 10
    job = await rig.start(namespace, manifest)
    members = Members(job)

    for incarnation, lost in enumerate((2, 0)):
        before, machines = await members.train(incarnation, SIZE), members.machines(incarnation)
        assert len(set(machines.values())) == SIZE
        await rig.control.preempt(machines[lost], 30)
        after = await members.train(incarnation + 1, SIZE)
        steps = await saves(rig, job, incarnation)
        newest = max(steps)
        assert steps[newest] == SIZE, "all saved themselves, at one step"
        assert {each.first for each in after} == {newest}
        assert all((each.last or 0) <= newest for each in before), "no step is lost"
        kept = {name for member, name in machines.items() if member != lost}
        assert kept < set(members.machines(incarnation + 1).values()), "only the machine that was lost is replaced"

    before, machines = await members.train(2, SIZE), members.machines(2)
    began = max(each.first or 0 for each in before)
    await rig.until(lambda: all((each.last or 0) > began + 90 for each in before), 60, "a save of this incarnation")
    await rig.control.preempt(machines[1], 0)
    after = await members.train(3, SIZE)
    assert {each.first for each in after} == {complete(await saves(rig, job, 2), SIZE)[-1]}, (
        "not from one that was cut short"
    )
    kept = {name for member, name in machines.items() if member != 1}
    assert kept < set(members.machines(3).values())
    entry = job.entry(0)
    assert (entry["preemptions"], entry["restarts"]) == (3, 0)

    await job.completed()
    assert all(job.training(0, member).done for member in range(SIZE))
    await rig.delete(namespace, machine(), CREDENTIALS, manifest)
    await job.nothing_left()
