"""In mode Application a training that saves itself loses its machine, and continues from what it has published."""

from __future__ import annotations

import html
import json
import re
from collections import Counter

import aiohttp
import pytest

from sandbox.demo.observer import Json, holds
from tests.e2e.rig import CREDENTIALS, Rig, Running, machine

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

BUCKET = "checkpoints"
FURTHEST = 900_000
"""A step that no training here reaches."""


def application(rig: Rig, **environment: object) -> Json:
    manifest = rig.job(replicas=1, **environment)
    config = manifest["spec"]["checkpointConfig"]
    del config["checkpointImageRepo"], config["checkpointRepoCredentialRef"]
    config["mode"] = "Application"
    config["checkpointStorage"] = {
        "type": "gcs", "bucket": BUCKET, "pathPrefix": "e2e/", "endpoint": rig.addresses["OBJECT_STORE_ENDPOINT"]
    }  # fmt: skip
    return manifest


async def test_it_goes_on_from_its_last_published_checkpoint_and_not_from_a_truncated_one(
    rig: Rig, namespace: str
) -> None:
    manifest = application(rig, SANDBOX_SAVE_EVERY=50, SANDBOX_ON_SIGTERM="ignore")
    pod = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 1
    job = await rig.start(namespace, manifest)
    assert holds(job.object, "StorageReady")

    before = job.training(0)
    await rig.until(lambda: (before.last or 0) >= 110, 60, "two checkpoints of its own")
    assert "storagePrefix=" in before.lines[1]
    # It has more progress than all others, and is cut short by the end of the machine that wrote it.
    prefix = f"e2e/{job.id}/checkpoints/r0-i0"
    torn = f"{prefix}/step-{FURTHEST:06d}"
    await put(rig, f"{torn}/state.json", b'{"st')
    manifest_of = json.dumps({"progress": FURTHEST, "files": {"state.json": 13}}).encode()
    await put(rig, f"{torn}/outlast.json", manifest_of)

    await job.preempt(0)
    await job.trains(0, but=(before,))
    after = job.training(0)
    saved = max(int(step) for step in await published(rig, prefix, r"step-(\d+)/outlast.json") if step not in torn)
    assert after.first == saved, "the original image, told where to go on"
    assert any("SIGTERM" in line for line in before.lines), "it was told to save itself while its machine still ran"
    entry = job.entry(0)
    assert entry["restoredFrom"] == f"{prefix}/step-{saved:06d}"
    assert entry["preemptions"] == 1
    events = await rig.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].message}")
    assert f"{torn}: state.json has 4 bytes instead of 13" in events
    assert not rig.observer.all("checkpointbackups", namespace), "nobody dumps it"
    await job.completed()
    assert job.training(0).done


async def test_a_checkpoint_of_several_processes_is_taken_once_all_have_written_their_parts(
    rig: Rig, namespace: str
) -> None:
    manifest = application(rig, SANDBOX_SAVE_EVERY=50, SANDBOX_SHARDS=4, SANDBOX_ON_SIGTERM="ignore")
    pod = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 1
    job = await rig.start(namespace, manifest)
    before = job.training(0)
    await rig.until(lambda: (before.last or 0) >= 60, 60, "a checkpoint of its own")
    # Further than all others, but one of its processes was cut off.
    prefix = f"e2e/{job.id}/checkpoints/r0-i0"
    torn = f"{prefix}/{FURTHEST:012d}"
    for rank in (0, 1, 3):
        await put(rig, f"{torn}/state-{rank}.json", b"{}")
        part = {"version": 2, "progress": FURTHEST, "files": {f"state-{rank}.json": 2}}
        await put(rig, f"{torn}/outlast-{rank}-of-4.json", json.dumps(part).encode())

    await job.preempt(0)
    await job.trains(0, but=(before,))
    parts = Counter(await published(rig, prefix, r"(\d+)/outlast-\d-of-4.json"))
    saved = max(int(step) for step, count in parts.items() if count == 4)
    assert job.training(0).first == saved
    assert job.entry(0)["restoredFrom"] == f"{prefix}/{saved:012d}"
    events = await rig.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].message}")
    assert f"{torn}: outlast-2-of-4.json is missing" in events


async def test_suspended_it_saves_itself_and_resumed_it_goes_on(rig: Rig, namespace: str) -> None:
    job = await rig.start(namespace, application(rig, SANDBOX_SAVE_EVERY=100000))
    before = job.training(0)
    await rig.until(lambda: (before.last or 0) >= 40, 60, "some steps")
    await suspend(rig, job, "true")
    await job.until(lambda: job.phase(0) == "Suspended", 60, "no VM")
    await suspend(rig, job, "false")
    await job.trains(0, but=(before,))
    assert (job.training(0).first or 0) >= 40
    await rig.delete(namespace, machine(), CREDENTIALS, application(rig))
    await job.nothing_left()


async def suspend(rig: Rig, job: Running, value: str) -> None:
    patch = f'{{"spec":{{"suspend":{value}}}}}'
    await rig.kubectl("patch", "sij", job.name, "-n", job.namespace, "--type=merge", "-p", patch)


async def put(rig: Rig, key: str, body: bytes) -> None:
    url = f"{rig.addresses['OBJECT_STORE']}/{BUCKET}/{key}"
    async with aiohttp.ClientSession() as session, session.put(url, data=body) as answer:
        answer.raise_for_status()


async def published(rig: Rig, directory: str, pattern: str) -> list[str]:
    """List what a pattern finds in the keys below a directory of the bucket.

    A machine's end may cut off the log that tells of them.
    """
    url, query = f"{rig.addresses['OBJECT_STORE']}/{BUCKET}", {"list-type": "2", "prefix": f"{directory}/"}
    listed = ""
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        while True:
            async with session.get(url, params=query) as answer:
                page = await answer.text()
            listed += page
            token = re.search("<NextContinuationToken>(.*?)</NextContinuationToken>", page)
            if token is None:
                return re.findall(f"<Key>{directory}/{pattern}</Key>", listed)
            query["continuation-token"] = html.unescape(token[1])


async def test_outputs_are_in_the_bucket_when_the_vm_is_gone(rig: Rig, namespace: str) -> None:
    manifest = rig.job(replicas=1, interval="1h", SANDBOX_OUTPUT="/out/model.txt")
    manifest["spec"]["outputs"] = ["/out"]
    manifest["spec"]["checkpointConfig"]["checkpointStorage"] = {
        "type": "s3", "bucket": BUCKET, "pathPrefix": "e2e", "endpoint": rig.addresses["OBJECT_STORE_ENDPOINT"]
    }  # fmt: skip
    job = await rig.start(namespace, manifest)
    await job.completed()
    await rig.until(lambda: not [vm for vm in rig.observer.vms if job.id in vm["name"]], 60, "its VM to be gone")
    assert holds(job.object, "OutputsSaved")
    assert re.fullmatch(r"model after \d+ steps\n", await output(rig, job))


async def output(rig: Rig, job: Running) -> str:
    url = f"{rig.addresses['OBJECT_STORE']}/{BUCKET}/e2e/{job.id}/outputs/r0/out/model.txt"
    async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as answer:
        return await answer.text()
