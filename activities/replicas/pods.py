"""A replica's pod and what it says: its log, and the progress that the training reports there."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import aiohttp
import re2

from activities.kubernetes import ownership
from activities.signatures import ReplicaRef
from api import names
from api.projections import is_mirror, member_in
from clients.kube import Json, Kube, KubeError, path

PROGRESS_LINES = 500
"""Lines in which the last reported progress is looked for; a training reports it more often than that."""
READ_SECONDS = 8.0
TAIL = 4 * 2**20
"""Bytes of a log's end: whoever is root on its node decides how many lines it has, and how long they are."""
LINE = 4096
"""Characters of a line, from its end, to which the pattern is applied."""

UNREADABLE = (KubeError, aiohttp.ClientError, TimeoutError)
"""Raised if a pod's node does not answer for its log."""

Expression = Any
"""A compiled expression of re2, which has no types; it is used like one of ``re``."""

log = logging.getLogger(__name__)


async def pods_of(kube: Kube, ref: ReplicaRef) -> list[Json]:
    """List the pods of one incarnation, the first member's first; there may be none."""
    selector = ownership.selector(ref.job.job_id, ref.replica, ref.incarnation)
    found = await kube.list(path("v1", "pods", ref.job.namespace), labelSelector=selector)
    return sorted((pod for pod in found if not is_mirror(pod)), key=lambda pod: member_of(pod, ref))


def member_of(pod: Json, ref: ReplicaRef) -> int:
    """Read which member of the incarnation a pod is."""
    return member_in(pod, names.replica_job_name(ref.job.name, ref.job.job_id, ref.replica, ref.incarnation))


def all_containers(spec: Json) -> list[Json]:
    """List the containers of a pod spec, those that run before the others first."""
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def containers_of(pod: Json) -> list[str]:
    """List the names of the pod's containers, in order."""
    return [container["name"] for container in pod["spec"]["containers"]]


async def read_logs(kube: Kube, pod: Json, lines: int) -> dict[str, str]:
    """Read the last ``lines`` of each container's log; empty if it has none or its node does not answer."""
    containers = containers_of(pod)
    logs = await asyncio.gather(*(read_log(kube, pod, container, lines) for container in containers))
    return dict(zip(containers, logs, strict=True))


async def read_log(kube: Kube, pod: Json, container: str, lines: int) -> str:
    """Read a log's last ``lines``, ``TAIL`` bytes at most; empty if there is none or its node does not answer."""
    where, options = _log_of(pod, container)
    said = bytearray()
    try:
        async with aclosing(kube.stream(where, lasts=READ_SECONDS, tailLines=lines, **options)) as pieces:
            async for piece in pieces:
                said += piece
                del said[:-TAIL]
        return said.decode(errors="replace")
    except UNREADABLE as error:
        log.info("no log of %s/%s: %s", pod["metadata"]["name"], container, error)
        return ""


async def stream_log(kube: Kube, pod: Json, container: str, *, lasts: float) -> AsyncGenerator[bytes, None]:
    """Read a container's whole log, in pieces, for ``lasts`` seconds.

    Raises:
        UNREADABLE: its node no longer answers, or there is more than could be read in that time.
    """
    where, options = _log_of(pod, container)
    async with aclosing(kube.stream(where, lasts=lasts, **options)) as pieces:
        async for piece in pieces:
            yield piece


def _log_of(pod: Json, container: str) -> tuple[str, dict[str, str]]:
    metadata = pod["metadata"]
    options = {"container": container}
    if metadata.get("annotations", {}).get(names.ANNOTATION_RESTORED_FROM):
        # containerd begins the log of a restored container with that of the dumped one, lines of another pod.
        options["sinceTime"] = metadata["creationTimestamp"]
    return path("v1", "pods", metadata["namespace"], metadata["name"], "log"), options


def compile_pattern(pattern: str) -> Expression:
    """Compile ``checkpointConfig.progress.logPattern`` with RE2, in which no expression takes forever.

    Raises:
        ValueError: it is no regular expression of RE2 with exactly one group; the message says so.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        expression = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0].decode()
        raise ValueError(f"logPattern {pattern!r} is no regular expression of RE2: {said}") from error
    if expression.groups != 1:
        raise ValueError(f"logPattern {pattern!r} has {expression.groups} groups: exactly one has to match a number")
    return expression


async def reported_progress(kube: Kube, pod: Json, expression: Expression) -> tuple[float | None, bool]:
    """Read the progress reported last, in the first container that reports any, and whether any log was readable."""
    logs = await read_logs(kube, pod, PROGRESS_LINES)
    found = (last_number(expression, text) for text in logs.values())
    return next((number for number in found if number is not None), None), any(logs.values())


def last_number(expression: Expression, text: str) -> float | None:
    """Find the last number in ``text`` that the expression's group matched; None if there is none."""
    for line in reversed(text.splitlines()):
        for match in reversed(list(expression.finditer(line[-LINE:]))):
            try:
                number = float(match.group(1))
            except (ValueError, TypeError):  # a word, or a group that matched nothing
                continue
            if math.isfinite(number):
                return number
    return None
