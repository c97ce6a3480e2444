"""A job reports a bought node without its node agent, trains on, and reports when the agent is back."""

from api.views import AgentView
from tests.workflows.world import World

PULL = AgentView(running=False, reason="ImagePullBackOff", message='Back-off pulling image "private/outlast:1"')


def agent_ready(world: World) -> str | None:
    condition = world.documents.condition("AgentReady")
    return condition.status if condition else None


async def test_a_node_whose_agent_does_not_run_is_told_of_and_trains(world: World) -> None:
    world.cluster.agent = PULL
    await world.submit(replicas=1)
    await world.running(1)
    assert agent_ready(world) is None, "it has some minutes"
    await world.until(lambda: agent_ready(world) == "False", 300)
    condition = world.documents.condition("AgentReady")
    assert condition is not None
    assert condition.reason == "ImagePullBackOff"
    for words in (world.node_of(0), PULL.message, "nothing is checkpointed within its notice"):
        assert words in condition.message
    assert len(world.documents.told("AgentMissing")) == 1
    assert world.active == 1
    assert world.entry(0).incarnation == 0


async def test_it_is_told_when_the_agent_is_back(world: World) -> None:
    world.cluster.agent = PULL
    await world.submit(replicas=2)
    await world.until(lambda: agent_ready(world) == "False", 600)
    world.cluster.agent = AgentView(running=True)
    await world.until(lambda: agent_ready(world) == "True", 300)
    assert len(world.documents.told("AgentRuns")) == 1


async def test_an_agent_that_goes_later_is_missed(world: World) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.agent = AgentView(running=False, reason="NoPod", message="its DaemonSet has made no pod there")
    await world.until(lambda: agent_ready(world) == "False", 1000)


async def test_an_agent_that_starts_in_time_is_not_talked_about(world: World) -> None:
    world.cluster.agent = PULL
    await world.submit(replicas=1)
    await world.running(1)
    world.cluster.agent = AgentView(running=True)
    await world.pass_time(1500)
    assert agent_ready(world) is None
    assert world.documents.told("AgentMissing") == []


async def test_a_node_that_is_gone_lacks_nothing(world: World) -> None:
    """If nobody wants an agent, the condition delays neither a recovery nor a completion."""
    world.cluster.steps = 3000
    world.cluster.agent = AgentView(running=False, reason="NotInstalled", message="there is no DaemonSet")
    await world.submit(replicas=1)
    await world.until(lambda: agent_ready(world) == "False", 600)
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    assert await world.ended() == "Completed"
    assert agent_ready(world) == "True"
