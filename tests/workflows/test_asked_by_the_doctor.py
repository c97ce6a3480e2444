"""The workflow by which ``outlast doctor`` asks the worker: what it cannot ask is a line like any other."""

from activities import signatures as act
from api import names
from api.diagnosis import Finding
from tests.workflows.documents import NAME, NAMESPACE, VM_SPEC, job_spec
from tests.workflows.world import TASK_QUEUE, World

REQUEST = act.DiagnosisRequest(
    preflights=[
        act.PreflightRequest(
            job=act.JobRef(namespace=NAMESPACE, name=NAME, uid="u", job_id="0a1b2c3d"),
            spec=job_spec(), vm_spec=VM_SPEC, candidates=[],
        )
    ]
)  # fmt: skip


async def diagnosed(world: World) -> dict[str, Finding]:
    handle = await world.env.client.start_workflow(
        names.DIAGNOSIS_WORKFLOW, REQUEST, id="doctor", task_queue=TASK_QUEUE, result_type=act.Diagnosed
    )
    await world.pass_time(60)
    return {each.part: each for each in (await handle.result()).findings}


async def test_a_jobs_needs_and_the_surroundings_are_told(world: World) -> None:
    world.documents.failing_checks.add("RegistryReady")
    found = await diagnosed(world)
    assert found["quota"].well
    assert not found[f"RegistryReady for {NAMESPACE}/{NAME}"].well
    assert found[f"CloudReady for {NAMESPACE}/{NAME}"].well
    assert not any(part.startswith("MachineFits") for part in found)  # it concerns a template


async def test_what_cannot_be_asked_is_told(world: World) -> None:
    world.down |= {"diagnose", "preflight"}
    found = await diagnosed(world)
    assert {part: each.well for part, each in found.items()} == {
        "the worker": False, f"preflight of {NAMESPACE}/{NAME}": False,
    }  # fmt: skip
