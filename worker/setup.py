"""``python -m worker.setup``: set up Temporal for a release before its worker gets work; then it ends.

It registers the search attributes, waits until the version's worker polls, and makes that version current.
`deploy/base` runs it as a Job for each release.
It may run any number of times, and undoes nothing: see :meth:`worker.versions.Standing.objection`.

Environment: that of the worker. Without ``TEMPORAL_WORKER_BUILD_ID`` there is no version to make current.
"""

import asyncio
import logging

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from clients import search_attributes
from clients.installation import CANNOT_CONNECT, connected, refuse_other_clusters
from clients.search_attributes import NotRegisteredError
from programs import frame
from worker.settings import Settings, from_environment
from worker.versions import how_to_make_current, make_current, standing, unpolled

log = logging.getLogger("worker.setup")

DEADLINE = 900.0  # seconds for the version's worker to poll, because an image is pulled meanwhile
EVERY = 2.0
NOT_YET = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.NOT_FOUND,  # Temporal learns of a version a moment after its worker's first poll
    RPCStatusCode.FAILED_PRECONDITION,  # and of its task queues one by one; or somebody else has just changed it
}


def main() -> int:
    """Run; return 1 with one line on stderr if it failed, so that the Job retries."""
    return frame.run("worker.setup", lambda: asyncio.run(run(from_environment())), CANNOT_CONNECT)


async def run(settings: Settings) -> None:
    """Set up the Temporal namespace of this installation.

    Raises:
        WrongClusterError: the Temporal namespace belongs to another cluster.
        ConnectionError: Temporal or the API server is unreachable.
        TimeoutError: no worker of this version polls.
        RPCError: Temporal refuses.
    """
    async with connected(settings.connections) as here:
        await refuse_other_clusters(here.temporal, here.cluster_id)
        try:
            await search_attributes.ensure(here.temporal)
        except NotRegisteredError as error:  # jobs run without them: a release does not wait for searchability
            log.warning("workflows go without search attributes: %s", error)
        if settings.version is None:
            log.info("the worker has no version: nothing to make current")
        else:
            await ensure_current(here.temporal, settings.version)


async def ensure_current(client: Client, version: WorkerDeploymentVersion, deadline: float = DEADLINE) -> None:
    """Make the version current as soon as its worker polls, unless there is an objection.

    Raises:
        TimeoutError: not within ``deadline`` seconds; the message says what was waited for, and what to check.
        RPCError: Temporal refuses.
    """
    end = asyncio.get_running_loop().time() + deadline
    told = ""
    while True:
        waits_for = await _step(client, version)
        if not waits_for:
            return
        if waits_for != told:
            log.info("version %s is not current yet: waiting for %s", version.build_id, waits_for)
        told = waits_for
        if asyncio.get_running_loop().time() >= end:
            raise TimeoutError(
                f"version {version.build_id} could not be made current within {deadline:.0f} s: still waiting for "
                f"{waits_for}; check its pods: kubectl get pods -A -l app.kubernetes.io/component=worker,"
                f"app.kubernetes.io/version={version.build_id}"
            )
        await asyncio.sleep(EVERY)


async def _step(client: Client, version: WorkerDeploymentVersion) -> str:
    """Take the next step, and say what has to be waited for; empty if nothing is left to do."""
    try:
        found = await standing(client, version)
        if found.is_current:
            log.info("version %s is current", version.build_id)
            return ""
        if objection := found.objection():
            log.warning(
                "version %s is not made current, because %s; %s stays current. If it should be: %s",
                version.build_id, objection, found.current or "the worker without a version",
                how_to_make_current(version),
            )  # fmt: skip
            return ""
        if missing := await unpolled(client, version):
            return f"a worker of this version to poll {', '.join(missing)}"
        if not found.known:
            return "Temporal to know this version"
        await make_current(client, found)
    except RPCError as error:
        if error.status not in NOT_YET:
            raise
        return f"Temporal ({error})"
    log.info("version %s is current from now on, after %s", version.build_id, found.current or "none")
    return ""


if __name__ == "__main__":
    frame.end(main())
