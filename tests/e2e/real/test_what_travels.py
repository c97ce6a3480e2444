"""What a process takes along to another machine, and what not: the table of docs/checkpointing.md, each row a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from sandbox.checkpoint_operator.phases import PUSHING
from sandbox.checkpoint_operator.traps import ABSENT, FAIL, PRESENT, SLOW
from sandbox.machines.real.requirements import obstacle
from tests.e2e.real.pods import Pods, Restored
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]
if reason := obstacle():
    pytestmark.append(pytest.mark.skip(reason=reason))

# Each script sets something up, prints ready, and then prints every fifth of a second whether it still has it.
LOOP = """
import time
print("ready")
while True:
    time.sleep(0.2)
    try:
        print(look())
    except Exception as error:
        print(f"lost: {type(error).__name__}")
"""
EMPTY_DIR: dict[str, Any] = {
    "volumes": [{"name": "scratch", "emptyDir": {}}],
    "container": {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
}
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "memory": ("import itertools\ncount = itertools.count()\ndef look(): return next(count)\n", {}),
    "own-files": ("open('/kept', 'w').write('kept')\ndef look(): return open('/kept').read()\n", {}),
    "own-open-file": ("file = open('/log', 'w')\ndef look(): file.write('x'); file.flush(); return file.tell()\n", {}),
    "workers": (
        "import multiprocessing\nhere, there = multiprocessing.Pipe()\n"
        "def work():\n    while True: there.send(there.recv() + 1)\n"
        "multiprocessing.Process(target=work, daemon=True).start()\n"
        "def look(): here.send(41); return here.recv()\n",
        {},
    ),
    "listening": (
        "import socket\nserver = socket.create_server(('127.0.0.1', 7000))\n"
        "def look():\n    socket.create_connection(('127.0.0.1', 7000)).close(); server.accept()[0].close()\n"
        "    return 'accepts'\n",
        {},
    ),
    "connection": (
        "import socket\nlink = socket.create_connection(('10.128.0.1', PORT))\n"
        "def look():\n"
        "    global link\n"
        "    try:\n        link.getpeername()\n"
        "    except OSError:\n"
        "        link = socket.create_connection(('10.128.0.1', PORT)); return 'connected again'\n"
        "    return 'connected'\n",
        {},
    ),
    "empty-dir": (
        "open('/scratch/kept', 'w').write('kept')\ndef look(): return open('/scratch/kept').read()\n",
        EMPTY_DIR,
    ),
    "empty-dir-open": (
        "file = open('/scratch/log', 'w')\ndef look(): file.write('x'); file.flush(); return file.tell()\n",
        EMPTY_DIR,
    ),
    "shm": ("open('/dev/shm/kept', 'w').write('kept')\ndef look(): return open('/dev/shm/kept').read()\n", {}),
}
AT_ONCE = 3
PAST = 8

Trips = Mapping[str, "asyncio.Task[Restored]"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pods(real: Rig) -> Pods:
    """Buy two nodes without GPUs, which are in nobody's way, and make a namespace; all of it goes with the cloud."""
    made = Pods(real, await real.namespace())
    await made.up()
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trips(pods: Pods) -> AsyncIterator[Trips]:
    """Move all scripts, a few at a time; each test waits for what arrived on the other node."""
    places = asyncio.Semaphore(AT_ONCE)

    async def travel(name: str) -> Restored:
        setup, spec = SCRIPTS[name]
        async with places:
            # Its past is longer than what is read of the restored one, which could not have got so far by itself.
            pod = await pods.start(name, setup.replace("PORT", pods.api_server_port) + LOOP, ticks=PAST, **spec)
            image = await pods.checkpoint(name)
            assert "/travels/" in image, image
            return await pods.restore(name, pod, image)

    begun = {name: asyncio.create_task(travel(name)) for name in SCRIPTS}
    yield begun
    for each in begun.values():
        each.cancel()
    await asyncio.gather(*begun.values(), return_exceptions=True)


async def test_memory(trips: Trips) -> None:
    restored = await trips["memory"]
    assert restored.runs
    assert int(restored.lines[-1]) > 5


async def test_files_in_the_containers_own_file_system(trips: Trips) -> None:
    restored = await trips["own-files"]
    assert restored.lines[-1] == "kept"


async def test_an_open_file_in_the_containers_own_file_system(trips: Trips) -> None:
    restored = await trips["own-open-file"]
    assert int(restored.lines[-1]) > 5


async def test_worker_processes(trips: Trips) -> None:
    restored = await trips["workers"]
    assert restored.lines[-1] == "42"


async def test_a_listening_socket(trips: Trips) -> None:
    restored = await trips["listening"]
    assert restored.lines[-1] == "accepts"


async def test_an_established_connection_is_lost_and_a_new_one_can_be_made(trips: Trips) -> None:
    restored = await trips["connection"]
    assert "connected again" in restored.lines
    assert restored.lines[-1] == "connected"


async def test_files_in_an_empty_dir_stay_behind(trips: Trips) -> None:
    restored = await trips["empty-dir"]
    assert restored.runs
    assert restored.lines[-1] == "lost: FileNotFoundError"


async def test_an_open_file_in_an_empty_dir_keeps_it_from_starting(trips: Trips) -> None:
    restored = await trips["empty-dir-open"]
    assert not restored.runs


async def test_shared_memory_stays_behind(trips: Trips) -> None:
    restored = await trips["shm"]
    assert restored.lines[-1] == "lost: FileNotFoundError"


async def test_hostname_and_environment_are_those_of_the_dumped_one(pods: Pods) -> None:
    setup = "import os, socket\ndef look(): return f'{socket.gethostname()} {os.environ.get(\"ROLE\")}'\n"
    pod = await pods.start("who", setup + LOOP, container={"env": [{"name": "ROLE", "value": "source"}]})
    image = await pods.checkpoint("who")
    pod["spec"]["containers"][0]["env"][0]["value"] = "restored"
    restored = await pods.restore("who", pod, image)
    assert restored.lines[-1] == "who source"


async def test_a_shell_script_on_a_config_map_keeps_it_from_starting(pods: Pods) -> None:
    """A shell reads its script as it goes, so it has the file open; another ConfigMap volume has another path to it."""
    await pods.config_map("scripts", run_sh="echo ready\nwhile true; do sleep 0.2; echo $((count += 1)); done\n")
    volumes = [{"name": "scripts", "configMap": {"name": "scripts"}}]
    mounts = [{"name": "scripts", "mountPath": "/scripts"}]
    container = {"command": ["bash", "/scripts/run.sh"], "volumeMounts": mounts}
    pod = await pods.start("script", "", volumes=volumes, container=container)
    image = await pods.checkpoint("script")
    assert "/travels/" in image, image
    restored = await pods.restore("script", pod, image)
    assert not restored.runs


async def test_an_agent_in_its_pod_plays_the_traps_that_wait(pods: Pods, real: Rig) -> None:
    await pods.start("trapped", f"def look(): return 1\n{LOOP}")
    await real.control.trap(FAIL, phase=PUSHING)
    assert await pods.checkpoint("trapped") == "played: failure in ImagePushing"
    await real.control.trap(SLOW, factor=200)
    assert "/travels/" in await pods.checkpoint("trapped", "slow")
    assert pods.pushed_within("slow") > 1, "two hundred times what takes 5 ms at the very least"
    assert "/travels/" in await pods.checkpoint("trapped", "at-ease")


async def test_the_agents_go_and_come_back(pods: Pods, real: Rig) -> None:
    def agents() -> list[Any]:
        found = real.observer.all("pods", "kube-system")
        return [pod for pod in found if pod["metadata"]["labels"].get("app") == "checkpoint-agent"]

    await pods.start("waiting", f"def look(): return 1\n{LOOP}")
    await real.control.trap(ABSENT)
    await real.until(lambda: not agents(), 60, "the agents to go")
    await real.control.trap(PRESENT)
    assert "/travels/waiting" in await pods.checkpoint("waiting")
