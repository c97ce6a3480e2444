"""``python -m sandbox.checkpoint_operator``: the agent of the node on which its pod runs.

It acts as the pod's ServiceAccount, and learns its node from NODE_NAME and NODE_ADDRESS. If its kubelet does not answer
any more, it ends with an error, and the kubelet starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from sandbox.checkpoint_operator.agent import Agent, Work
from sandbox.checkpoint_operator.backup import COLLECTION, key_of
from sandbox.checkpoint_operator.node_access import AgentDied, NodeAccess
from sandbox.checkpoint_operator.shared_traps import SharedTraps
from sandbox.kube_client import KubeClient

KUBELET_PORT = 10250
STORAGE = Path("/var/lib/kubelet/checkpoints/stored")


def main() -> int:
    """Work until the kubelet is gone, and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_work())
    except* AgentDied as group:
        logging.error("%s", group.exceptions[0])
    return 1


async def _work() -> None:
    client = KubeClient.in_pod()
    kubelet = KubeClient.in_pod(kubelet=f"{os.environ['NODE_ADDRESS']}:{KUBELET_PORT}")
    work = Work(
        client=client,
        take_trap=SharedTraps(client).take,
        storage=STORAGE,
        # These take their real time on a real machine.
        speed=1.0,
        build_seconds=0.0,
        push_seconds=0.0,
        may_delete_pods=False,
    )
    agent = Agent(NodeAccess(os.environ["NODE_NAME"], kubelet, work.speed), work)
    async with asyncio.TaskGroup() as group:
        group.create_task(_follow(client, agent))
        group.create_task(agent.run())


async def _follow(client: KubeClient, agent: Agent) -> None:
    async for change in client.follow(COLLECTION):
        if change.type == "DELETED":
            agent.forget(key_of(change.object))
            continue
        for backup in change.object if change.type == "SYNC" else [change.object]:
            agent.look_at(backup)


if __name__ == "__main__":
    sys.exit(main())
