"""One call of the command line: which cluster and namespace it is about, and how it ends."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import typer
from kubernetes.aio.config import list_kube_config_contexts
from rich.console import Console

from api import names
from api.spot_instance_job import SpotInstanceJobSpec, SpotInstanceJobStatus
from clients.kube import Json, Kube, KubeError, connect, path

T = TypeVar("T")

FAILED, USAGE, ABSENT, LATE = 1, 2, 3, 4
"""Exit codes: the job failed, or what was asked for did; the command was misunderstood; there is no such object, or no
right to it; the time-out passed."""

# No markup: messages and names that others wrote may look like it.
console = Console(highlight=False, markup=False)
errors = Console(stderr=True, highlight=False, markup=False)


class Told(Exception):
    """What is told instead of a result, with the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Where:
    """The cluster and the namespace.

    Attributes:
        namespace: None for the namespace of the kubeconfig's context.
        kubeconfig: None for ``$KUBECONFIG``, else ``~/.kube/config``.
        context: None for the kubeconfig's current one.
    """

    namespace: str | None = None
    kubeconfig: str | None = None
    context: str | None = None


@dataclass(frozen=True)
class Cluster:
    """A cluster that is connected to, and the namespace that is meant."""

    kube: Kube
    namespace: str

    async def job(self, name: str) -> Json:
        """Read a SpotInstanceJob.

        Raises:
            Told: there is none of this name.
        """
        found = await self.kube.find(self.job_path(name))
        if found is None:
            raise Told(f"there is no SpotInstanceJob {self.namespace}/{name}: kubectl get sij -A lists them", ABSENT)
        return found

    async def jobs(self, *, everywhere: bool = False) -> list[Json]:
        """Read all SpotInstanceJobs of the namespace, or of the cluster."""
        return await self.kube.list(path(names.API_VERSION, names.JOB_PLURAL, None if everywhere else self.namespace))

    def job_path(self, name: str, sub: str | None = None) -> str:
        """Return the path of a SpotInstanceJob."""
        return path(names.API_VERSION, names.JOB_PLURAL, self.namespace, name, sub)


def status_of(job: Json) -> SpotInstanceJobStatus:
    """Read the status of a job; that of a job that nobody has read yet is empty."""
    return SpotInstanceJobStatus.model_validate(job.get("status") or {})


def spec_of(job: Json) -> SpotInstanceJobSpec:
    """Read the spec of a job."""
    return SpotInstanceJobSpec.model_validate(job["spec"])


def ask(where: Where, act: Callable[[Cluster], Awaitable[T]]) -> T:
    """Connect, do what is asked for, and return its result. What goes wrong is one line, and an exit code."""
    try:
        return asyncio.run(_with(where, act))
    except Told as told:
        errors.print(str(told), style="red" if told.code == FAILED else "yellow")
        raise typer.Exit(told.code) from None
    except KubeError as error:
        errors.print(error.message, style="red")
        raise typer.Exit(ABSENT if error.status in (401, 403, 404) else FAILED) from None
    except (ConnectionError, aiohttp.ClientError, TimeoutError) as error:
        errors.print(f"the cluster cannot be reached: {error or type(error).__name__}", style="red")
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def _with(where: Where, act: Callable[[Cluster], Awaitable[T]]) -> T:
    kube = await connect(where.kubeconfig, where.context)
    async with kube:
        return await act(Cluster(kube, where.namespace or namespace_of(where)))


def namespace_of(where: Where) -> str:
    """Return the namespace of the kubeconfig's context, as kubectl does; ``default`` if it names none."""
    contexts, active = list_kube_config_contexts(where.kubeconfig or os.environ.get("KUBECONFIG"))
    found = next((each for each in contexts if each["name"] == where.context), active)
    return str(found["context"].get("namespace") or "default")
