"""Each line that a workflow logs says which job, replica and VM it is about."""

import io

from tests.unit.test_log_lines import lines, said  # noqa: F401
from tests.workflows.world import World


async def test_each_line_of_a_workflow_says_what_it_is_about(
    world: World,
    said: io.StringIO,  # noqa: F811
) -> None:
    await world.submit(replicas=1)
    await world.running(1)
    world.down = {"observe_vm"}
    world.notice(0)
    await world.until(lambda: world.entry(0).incarnation == 1 and world.active == 1)
    told = [line for line in lines(said) if line["logger"] == "temporalio.workflow"]
    started = [line for line in told if line["message"].startswith("Started")]
    assert started[0]["job"] == "team/llm"
    assert started[0]["replica"] == 0
    assert started[0]["workflow_type"] == "SpotInstanceJob"
    of_vms = [line for line in told if line["workflow_type"] == "SpotVM"]
    assert all(line["vm"] in world.fleet.keys and line["replica"] == 0 for line in of_vms)
