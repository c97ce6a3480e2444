"""The DNS of real machines, asked by UDP about what a real API server tells it."""

from __future__ import annotations

import dns.asyncquery
import dns.message
import dns.rdatatype

from sandbox.control_plane import ControlPlane
from sandbox.kube_client import KubeClient
from sandbox.machines.real.dns import NameServer
from tests.sandbox.light_nodes import eventually


async def test_a_new_service_is_found(control_plane: ControlPlane, admin: KubeClient, namespace: str) -> None:
    names = NameServer(control_plane.kubeconfig)
    await names.start("127.0.0.1", 0)
    try:
        spec = {"ports": [{"port": 80}]}
        made = await admin.create(
            f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "web"}, "spec": spec}
        )
        query = dns.message.make_query(f"web.{namespace}.svc.cluster.local", dns.rdatatype.A)

        async def found() -> list[str]:
            told = await dns.asyncquery.udp(query, "127.0.0.1", timeout=60, port=names.port)
            return [str(each) for rrset in told.answer for each in rrset]

        assert await eventually("its address", found) == [made["spec"]["clusterIP"]]
    finally:
        await names.stop()
