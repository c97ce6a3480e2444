"""An API server of a large cluster, made up: objects of the size that real ones have, in pages. Nothing else works.

``python -m tests.activities.large_cluster`` prints what the worker and the bridge take to know it.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from activities.placement.fitting import Taken, choose, survey
from api import names
from clients.kube import Kube
from crd_bridge.bridge import Bridge
from worker.memory import Memory

Json = dict[str, Any]
NODES, PODS = 5_000, 20_000
VERSION = "1000000"
NUMBER = "%NUM%"  # in the text of an object, for its number
NODE = "%NODE%"  # for that of its node
VARIETY = 35  # objects that differ in more than their numbers
MANAGED = [{"manager": f"m{n}", "fieldsV1": {f"f:field-{i}": {"f:more": {}} for i in range(60)}} for n in range(2)]


def node(number: int) -> Json:
    """A node with four GPUs, 50 images and as many labels as feature discovery sets: 15 KB."""
    amounts = {"cpu": "96", "memory": "1056784Ki", "ephemeral-storage": "267847642337", "pods": "110"}
    amounts["nvidia.com/gpu"] = "4"
    labels = {f"feature.node.kubernetes.io/cpu-feature-{n}": "true" for n in range(40)}
    labels |= {"kubernetes.io/hostname": f"node-{NUMBER}", "topology.kubernetes.io/zone": f"zone-{number % 3}"}
    image = "registry.example.com/some-team/some-repository/some-image"
    images = [{"names": [f"{image}-{n}@sha256:{n:064x}", f"{image}-{n}:v1.{n}"], "sizeBytes": n} for n in range(50)]
    conditions = [{"type": kind, "status": "False", "reason": "Fine", "message": "x" * 60} for kind in "ABCD"]
    conditions.append({"type": "Ready", "status": "True"})
    metadata = {"name": f"node-{NUMBER}", "uid": f"{NUMBER:>036}", "resourceVersion": "5", "labels": labels}
    status = {"allocatable": amounts, "capacity": amounts, "conditions": conditions, "images": images}
    return {"metadata": metadata | {"managedFields": MANAGED}, "spec": {}, "status": status}


def pod(number: int) -> Json:
    """A pod with three containers on one of the nodes: 8 KB."""
    resources = {"requests": {"cpu": f"{number % 7 + 1}00m", "memory": f"{number % 5 + 1}Gi", "nvidia.com/gpu": "1"}}
    env = [{"name": f"SOME_VARIABLE_{n}", "value": "a value " * 4} for n in range(15)]
    containers = [{"name": f"c{n}", "image": "x" * 80, "env": env, "resources": resources} for n in range(3)]
    labels = {"app": f"app-{number % 300}", "pod-template-hash": f"{NUMBER:>010}"}
    metadata = {"name": f"pod-{NUMBER}", "namespace": f"team-{number % 40}", "resourceVersion": "5"}
    metadata |= {"labels": labels, "managedFields": MANAGED, "creationTimestamp": "2026-11-30T00:00:00Z"}
    statuses = [
        {"name": each["name"], "state": {"running": {"startedAt": "2026-11-30T00:00:00Z"}}} for each in containers
    ]
    status = {"phase": "Running", "containerStatuses": statuses}
    return {
        "metadata": metadata,
        "spec": {"nodeName": f"node-{NODE}", "containers": containers},
        "status": status,
    }


@asynccontextmanager
async def served(part: int = 1) -> AsyncIterator[str]:
    """Serve it, or one of so many parts of it; gives its address."""
    counts = {"nodes": NODES // part, "pods": PODS // part}
    made = {"nodes": node, "pods": pod}
    texts = {plural: [json.dumps(make(number)) for number in range(VARIETY)] for plural, make in made.items()}

    async def collection(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            held = web.StreamResponse()
            await held.prepare(request)
            await asyncio.Event().wait()
            return held
        plural = request.path.split("/")[-1]
        count = 0 if request.query.get("labelSelector") else counts.get(plural, 0)
        begin, limit = int(request.query.get("continue", 0)), int(request.query["limit"])
        end = min(count, begin + limit)
        metadata = json.dumps({"resourceVersion": VERSION, "continue": str(end) if end < count else ""})
        items = ",".join(text(texts[plural], number) for number in range(begin, end))
        return web.Response(text=f'{{"metadata":{metadata},"items":[{items}]}}', content_type="application/json")

    def text(different: list[str], number: int) -> str:
        found = different[number % VARIETY].replace(NUMBER, f"{number:06d}")
        return found.replace(NODE, f"{number % counts['nodes']:06d}")

    app = web.Application()
    app.router.add_get("/{path:.*}", collection)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def peak() -> float:
    """Give this process's highest memory so far, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def now() -> float:
    """Give this process's memory, in MiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


async def measure(address: str, program: str) -> Json:
    """Let a worker's memory, or the bridge's watches, know the cluster."""
    configuration = Configuration(host=address)
    begun, cpu, before = time.monotonic(), time.process_time(), now()
    async with Kube(ApiClient(configuration), timeout=120) as kube:
        if program == "bridge":
            nobody: Any = None
            bridge = Bridge(kube, nobody, "")
            work = asyncio.create_task(bridge.run())
            for watch in bridge.watches:
                await watch.synced.wait()
            told: Json = {}
        else:
            memory = Memory(kube)
            running = memory.kept()
            await running.__aenter__()
            await asyncio.gather(memory.hosts.read(within=120), memory.placed.read(within=120))
            work = asyncio.create_task(asyncio.sleep(0))
            told = await search(memory)
        told |= {"before": before, "after": now(), "peak": peak()}
        told |= {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
        work.cancel()
        if program != "bridge":
            await running.__aexit__(None, None, None)
    return {name: round(value, 4) for name, value in told.items()}


async def search(memory: Memory) -> Json:
    """Look for a place for one more pod."""
    hosts, pods = await memory.hosts.read(), await memory.placed.read()
    template = {"spec": {"containers": [{"name": "t", "resources": {"limits": {names.GPU_RESOURCE: 1}}}]}}

    def taken_on(node: str) -> Taken:
        return pods.summed(node, lambda found: Taken.by(each.demand for each in found))

    def find() -> float:
        begun = time.process_time()
        choose(survey(hosts.items.values(), taken_on, template), hosts.items)
        return time.process_time() - begun

    return {
        "first_search": find(),
        "search": min(find() for _ in range(3)),
        "hosts": len(hosts.items),
        "pods": len(pods.items),
    }


async def measured(address: str, program: str) -> Json:
    """Measure in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.activities.large_cluster", address, program, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    found: Json = json.loads(said)
    return found


async def whole() -> None:
    """Print what the whole cluster takes, in MiB and seconds."""
    async with served() as address:
        for program in ("worker", "bridge"):
            print(program, await measured(address, program), flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(asyncio.run(measure(*sys.argv[1:]))))
    else:
        asyncio.run(whole())
