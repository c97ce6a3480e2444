"""A real Kubernetes control plane on 127.0.0.1: etcd, API server, controller-manager and scheduler as plain processes.

It is in the state in which ``kubeadm init`` leaves one: nodes join it with a bootstrap token and get their client
certificate by CSR, and the node authorizer lets them touch only their own objects.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import string
from pathlib import Path

import aiohttp

from sandbox.binaries import Binaries
from sandbox.claims import free_port
from sandbox.cluster import Cluster
from sandbox.kubeconfig import by_certificate, kubeconfig, write_private
from sandbox.machines.real.network import CONTROL_PLANE
from sandbox.pki import Pair, Pki
from sandbox.processes import Process
from sandbox.settings import Settings

_SERVICE_RANGE = "10.96.0.0/16"


class ControlPlane(Cluster):
    """Runs the control plane of one sandbox."""

    def __init__(self, settings: Settings, binaries: Binaries) -> None:
        self._settings = settings
        self._binaries = binaries
        self._directory = settings.state_dir / "kubernetes"
        self._nodes_reach = CONTROL_PLANE if settings.machines == "real" else "127.0.0.1"
        self.pki = Pki(self._directory / "pki")
        self.port = free_port()
        """The API server's port, on each of its addresses."""
        url = f"https://127.0.0.1:{self.port}"
        super().__init__(url, self.pki.ca.certificate, settings.admin_kubeconfig, binaries.kubectl)
        etcd = f"http://127.0.0.1:{free_port()}"
        self._etcd = self._process("etcd", binaries.etcd, *self._etcd_flags(etcd))
        self._apiserver = self._process("kube-apiserver", binaries.kube_apiserver, *self._apiserver_flags(etcd))
        self._controller_manager = self._process(
            "kube-controller-manager", binaries.kube_controller_manager, *self._controller_manager_flags()
        )
        self._scheduler = self._process("kube-scheduler", binaries.kube_scheduler, *self._scheduler_flags())
        self.processes = (self._etcd, self._apiserver, self._controller_manager, self._scheduler)

    @property
    def endpoint(self) -> str:
        """host:port of the API server, as nodes reach it."""
        return f"{self._nodes_reach}:{self.port}"

    async def up(self) -> None:
        """Start everything; returns once the API server is ready and nodes can join.

        Raises:
            SandboxError: a process ends early, or is not ready in time.
        """
        self._write_kubeconfig(self.kubeconfig, "kubernetes-admin", self.pki.admin)
        await self._etcd.start()
        await self._apiserver.start()
        await self._apiserver.ready(self._serves)
        await self._controller_manager.start()
        await self._scheduler.start()
        await self._upload()
        await self._controller_manager.ready(self._default_service_account)

    async def down(self) -> None:
        """Stop everything, clients before servers."""
        await asyncio.gather(self._scheduler.stop(), self._controller_manager.stop())
        await self._apiserver.stop()
        await self._etcd.stop()

    def _process(self, name: str, executable: Path, *flags: str) -> Process:
        return Process(name, [executable, *flags], self._settings.state_dir)

    def _etcd_flags(self, url: str) -> list[str]:
        return [
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--log-level=warn",
            # A sandbox may lose its last writes when the machine loses power, but it must not wait for a disk.
            "--unsafe-no-fsync",
        ]

    def _apiserver_flags(self, etcd: str) -> list[str]:
        pki = self.pki
        return [
            f"--etcd-servers={etcd}",
            # With real machines all addresses are in the cloud's own network.
            f"--bind-address={'0.0.0.0' if self._settings.machines == 'real' else '127.0.0.1'}",
            f"--secure-port={self.port}",
            # Loopback is no valid endpoint of the Service ``kubernetes``, and there is no kube-proxy that reads it.
            f"--advertise-address={self._nodes_reach}",
            "--endpoint-reconciler-type=none",
            f"--service-cluster-ip-range={_SERVICE_RANGE}",
            f"--tls-cert-file={pki.apiserver.certificate}",
            f"--tls-private-key-file={pki.apiserver.key}",
            f"--client-ca-file={pki.ca.certificate}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-bootstrap-token-auth=true",
            "--allow-privileged=true",
            f"--kubelet-client-certificate={pki.kubelet_client.certificate}",
            f"--kubelet-client-key={pki.kubelet_client.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki.service_account_public_key}",
            f"--service-account-signing-key-file={pki.service_account_key}",
            f"--requestheader-client-ca-file={pki.front_proxy_ca.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki.front_proxy_client.certificate}",
            f"--proxy-client-key-file={pki.front_proxy_client.key}",
        ]

    def _controller_manager_flags(self) -> list[str]:
        pki = self.pki
        config = self._write_kubeconfig(
            self._directory / "controller-manager.kubeconfig", "controller-manager", pki.controller_manager
        )
        return [
            f"--kubeconfig={config}",
            "--leader-elect=false",
            "--secure-port=0",
            "--controllers=*,bootstrap-signer-controller,token-cleaner-controller,-node-ipam-controller",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={pki.service_account_key}",
            f"--root-ca-file={pki.ca.certificate}",
            f"--client-ca-file={pki.ca.certificate}",
            f"--cluster-signing-cert-file={pki.ca.certificate}",
            f"--cluster-signing-key-file={pki.ca.key}",
            f"--service-cluster-ip-range={_SERVICE_RANGE}",
            f"--node-monitor-grace-period={self._settings.node_monitor_grace_period}s",
            "--node-monitor-period=1s",
            # The defaults delay the start of its forty controllers by seconds, and a sandbox is its only client.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]

    def _scheduler_flags(self) -> list[str]:
        config = self._write_kubeconfig(self._directory / "scheduler.kubeconfig", "scheduler", self.pki.scheduler)
        return [f"--kubeconfig={config}", "--leader-elect=false", "--secure-port=0"]

    def _write_kubeconfig(self, path: Path, user: str, pair: Pair) -> Path:
        credentials = by_certificate(pair.certificate.read_bytes(), pair.key.read_bytes())
        return write_private(path, kubeconfig(self.url, self.ca_file.read_bytes(), user, credentials))

    async def _serves(self) -> bool:
        """True if the API server is ready, including its own RBAC objects."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{self.url}/readyz", ssl=context) as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _upload(self) -> None:
        """Create what ``kubeadm init`` uploads for nodes that will join."""
        cluster_info = kubeconfig(f"https://{self.endpoint}", self.ca_file.read_bytes())
        machines = (Path(__file__).parent / "machines" / self._settings.machines / "kubelet.yaml").read_text()
        template = string.Template((Path(__file__).parent / "kubeadm.yaml").read_text())
        # JSON is YAML: any text that is quoted like this stays one value.
        manifest = template.substitute(
            CLUSTER_INFO=json.dumps(cluster_info), SERVER=self.endpoint, KUBELET=json.dumps(machines)
        )
        await self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)

    async def _default_service_account(self) -> bool:
        """True if pods can be created: admission refuses them until the controller-manager has made this object."""
        return bool(await self.kubectl("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name"))
