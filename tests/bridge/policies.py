"""When the worker's admission policies are in force: the API server heeds them some moments after they were applied."""

from __future__ import annotations

from sandbox.errors import SandboxError
from sandbox.kubectl import Kubectl

AS_WORKER = "--as=system:serviceaccount:outlast-system:outlast-worker"
_PROBES = {
    ("create", "configmap", "probe"): "that a SpotInstanceJob owns",
    ("create", "secret", "generic", "probe"): "may create no Secrets",
}


async def worker_is_held(kubectl: Kubectl) -> bool:
    """Whether each of them refuses what it should."""
    for probe, complaint in _PROBES.items():
        try:
            await kubectl(*probe, "--namespace=default", "--dry-run=server", AS_WORKER)
        except SandboxError as error:
            if complaint in str(error):
                continue
        return False
    return True
