"""When the worker's admission policies are in force: the API server heeds them some moments after they were applied."""

from __future__ import annotations

from sandbox.errors import SandboxError
from sandbox.kubectl import Kubectl

AS_WORKER = "--as=system:serviceaccount:outlast-system:outlast-worker"
AS_BRIDGE = "--as=system:serviceaccount:outlast-system:outlast-bridge"
_EVICTION = '{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "probe", "namespace": "default"}}'
_LEASE = '{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "probe"}}'
_PROBES = {
    ("create", "configmap", "probe", "-n", "default", "--dry-run=server"): ("", "that a SpotInstanceJob owns"),
    ("create", "secret", "generic", "probe", "-n", "default", "--dry-run=server"): ("", "may create no Secrets"),
    ("create", "--raw", "/api/v1/namespaces/default/pods/probe/eviction", "-f", "-"): (_EVICTION, "may evict no pods"),
    ("create", "-n", "outlast-system", "-f", "-", "--dry-run=server"): (_LEASE, "may write no Leases"),
}


async def worker_is_held(kubectl: Kubectl) -> bool:
    """True if each of them refuses what it should."""
    for probe, (stdin, complaint) in _PROBES.items():
        try:
            await kubectl(*probe, AS_WORKER, stdin=stdin)
        except SandboxError as error:
            if complaint in str(error):
                continue
        return False
    return True
