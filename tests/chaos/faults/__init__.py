"""All faults of docs/faults.md that the fakes can play, and how they end."""

from tests.chaos.faults import calls, checkpoints, cloud, cluster, credentials, machines, people
from tests.chaos.faults.grammar import Kind
from tests.chaos.stage import Stage

# In this order: a seed draws from it, and has to draw the same while the kinds are the same.
KINDS: dict[str, Kind] = {
    **machines.KINDS,
    **cluster.KINDS,
    **cloud.KINDS,
    **checkpoints.KINDS,
    **calls.KINDS,
    **people.KINDS,
    **credentials.KINDS,
}


def cease(stage: Stage) -> None:
    """Make all well again from now on, and forget what is counted down."""
    stage.end_all()
    world = stage.world
    world.cloud.stockouts = world.cloud.refuse_deletes = world.machines.failing_joins = 0
    world.cloud.refuse_creates, world.checkpoints.plans, world.cluster.snatched = [], [], set()
    for job in list(world.cluster.jobs.values()):
        world.cluster.unstick(job)
    stage.tell("resume")
