"""The phases of ``kubeadm join`` for a worker."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from sandbox.kube_client import UNREACHABLE, ApiError, KubeClient
from sandbox.machines.light.kubeadm import host as files
from sandbox.machines.light.kubeadm.bootstrap import obtain_certificate
from sandbox.machines.light.kubeadm.config import JoinConfiguration
from sandbox.machines.light.kubeadm.discovery import Cluster, discover, patience
from sandbox.machines.light.kubeadm.host import Host, KubeadmError, Print, check_runtime

_JOINED = """
This node has joined the cluster:
* Certificate signing request was sent to apiserver and a response was received.
* The Kubelet was informed of the new secure connection details.

Run 'kubectl get nodes' on the control-plane to see this node join the cluster.
"""


async def join(host: Host, configuration: JoinConfiguration, out: Print, err: Print) -> None:
    """Make this machine a node of the cluster.

    Raises:
        KubeadmError: the real kubeadm would give up, too.
    """
    out("[preflight] Running pre-flight checks")
    check_runtime(host.root, configuration.cri_socket)
    _preflight(host, configuration, err)
    await host.about_to_join(configuration.token)
    try:
        cluster = await discover(configuration, host.scaled, host.now)
    except KubeadmError as error:
        raise KubeadmError(f"error execution phase preflight: {error}") from error
    client = KubeClient(cluster.server, cluster.tls(), configuration.token)
    try:
        config = await _kubelet_config(client, configuration, out)
        await _check_node_name(client, configuration.node_name)
        pem = await obtain_certificate(
            client, configuration.node_name, patience(configuration.tls_bootstrap_seconds, host.scaled)
        )
    finally:
        await client.close()
    _write(host, configuration, cluster, config, pem, out)
    out("[kubelet-start] Starting the kubelet")
    out("[kubelet-check] Waiting for a healthy kubelet at http://127.0.0.1:10248/healthz. This can take up to 4m0s")
    try:
        await host.kubelet.start()
    except RuntimeError as error:
        raise KubeadmError(
            "error execution phase kubelet-start: The HTTP call equal to 'curl -sSL http://127.0.0.1:10248/healthz' "
            f"returned error: connection refused\nThe kubelet is not running: {error}"
        ) from error
    out("[kubelet-check] The kubelet is healthy")
    out("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap")
    out(_JOINED)


async def reset(host: Host, cri_socket: str, out: Print) -> None:
    """Undo a join on this machine. The Node object stays, as with the real kubeadm.

    Raises:
        KubeadmError: the machine has several runtimes, and none is named.
    """
    check_runtime(host.root, cri_socket)
    out("[preflight] Running pre-flight checks")
    out("[reset] Stopping the kubelet service")
    await host.kubelet.stop()
    out("[reset] Deleting contents of directories: [/etc/kubernetes/manifests /var/lib/kubelet /etc/kubernetes/pki]")
    gone = (
        files.KUBELET_CONF,
        files.BOOTSTRAP_CONF,
        files.CA_CRT,
        files.KUBELET_CONFIG,
        files.KUBELET_FLAGS,
        files.CLIENT_PEM,
    )
    for path in gone:
        (host.root / path).unlink(missing_ok=True)


def _preflight(host: Host, configuration: JoinConfiguration, err: Print) -> None:
    """Refuse a machine that is a node already."""
    problems = [
        (f"FileAvailable--{str(path).replace('/', '-')}", f"/{path} already exists")
        for path in (files.KUBELET_CONF, files.BOOTSTRAP_CONF, files.CA_CRT)
        if (host.root / path).exists()
    ]
    if host.kubelet.active:
        problems.append(("Port-10250", "Port 10250 is in use"))
    manifests = host.root / files.MANIFESTS
    if manifests.is_dir() and any(manifests.iterdir()):
        problems.append(("DirAvailable--etc-kubernetes-manifests", "/etc/kubernetes/manifests is not empty"))
    fatal = []
    for name, why in problems:
        if {name.lower(), "all"} & configuration.ignore_errors:
            err(f"\t[WARNING {name}]: {why}")
        else:
            fatal.append(f"\t[ERROR {name}]: {why}")
    if fatal:
        raise KubeadmError(
            "error execution phase preflight: [preflight] Some fatal errors occurred:\n"
            + "\n".join(fatal)
            + "\n[preflight] If you know what you are doing, you can make a check non-fatal with "
            "`--ignore-preflight-errors=...`",
            2,
        )


async def _kubelet_config(client: KubeClient, configuration: JoinConfiguration, out: Print) -> dict[str, Any]:
    """Return the cluster's KubeletConfiguration, with the patches of this node."""
    out('[preflight] Reading configuration from the "kubeadm-config" ConfigMap in namespace "kube-system"...')
    out("[preflight] Use 'kubeadm init phase upload-config kubeadm --config your-config-file' to re-upload it.")
    await _config_map(client, "kubeadm-config", "preflight: unable to fetch the kubeadm-config ConfigMap")
    data = await _config_map(client, "kubelet-config", "kubelet-start: failed to get the kubelet-config ConfigMap")
    config: dict[str, Any] = yaml.safe_load(data.get("kubelet", "")) or {}
    if configuration.patches is not None:
        for patch in _kubelet_patches(configuration.patches):
            out('[patches] Applied patch to target "kubeletconfiguration"')
            config = _merge(config, patch)
    return config


async def _config_map(client: KubeClient, name: str, failure: str) -> dict[str, str]:
    try:
        return dict((await client.get(f"/api/v1/namespaces/kube-system/configmaps/{name}")).get("data") or {})
    except (ApiError, *UNREACHABLE) as error:
        raise KubeadmError(f"error execution phase {failure}: failed to get config map: {error}") from error


def _kubelet_patches(directory: Path) -> list[dict[str, Any]]:
    """Read the patches ``kubeletconfiguration[SUFFIX][+PATCHTYPE].yaml`` or ``.json``, in the order of their names."""
    if not directory.is_dir():
        raise KubeadmError(
            f"error execution phase kubelet-start: could not list patch files for path {str(directory)!r}"
        )
    patches = []
    for path in sorted(directory.iterdir()):
        stem, _, kind = path.stem.partition("+")
        if not stem.startswith("kubeletconfiguration") or path.suffix not in {".yaml", ".json"}:
            continue
        if kind not in {"", "strategic", "merge"}:
            raise KubeadmError(
                f"error execution phase kubelet-start: the sandbox knows no patch type {kind!r}: {path.name}"
            )
        patches.append(yaml.safe_load(path.read_text()) or {})
    return patches


def _merge(base: Any, patch: Any) -> Any:
    """Merge as JSON merge patch does (RFC 7396); a strategic merge of plain KubeletConfiguration fields is the same."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


async def _check_node_name(client: KubeClient, node_name: str) -> None:
    """Refuse the name of a Node that is alive: two kubelets would fight over it."""
    try:
        node = await client.get(f"/api/v1/nodes/{node_name}")
    except ApiError as error:
        if error.status == 404:
            return
        raise KubeadmError(f"error execution phase kubelet-start: cannot get Node {node_name!r}: {error}") from error
    except UNREACHABLE as error:
        raise KubeadmError(f"error execution phase kubelet-start: cannot get Node {node_name!r}: {error}") from error
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            raise KubeadmError(
                f'error execution phase kubelet-start: a Node with name "{node_name}" and status "Ready" already '
                "exists in the cluster. You must delete the existing Node or change the name of this new joining Node"
            )


def _write(
    host: Host, configuration: JoinConfiguration, cluster: Cluster, config: dict[str, Any], pem: bytes, out: Print
) -> None:
    """Write to the disk what makes this machine a node, even at its next boot."""
    out('[kubelet-start] Writing kubelet configuration to file "/var/lib/kubelet/config.yaml"')
    out('[kubelet-start] Writing kubelet environment file with flags to file "/var/lib/kubelet/kubeadm-flags.env"')
    flags = dict(configuration.kubelet_args)
    if configuration.node_name != host.hostname:
        flags.setdefault("hostname-override", configuration.node_name)
    if configuration.taints:
        shown = (f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in configuration.taints)
        flags["register-with-taints"] = ",".join(shown)
    arguments = " ".join(shlex.quote(f"--{name}={value}") for name, value in sorted(flags.items()))
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "default-cluster",
                "cluster": {"server": cluster.server, "certificate-authority": str(host.root / files.CA_CRT)},
            }
        ],
        "users": [
            {
                "name": "default-auth",
                "user": {
                    "client-certificate": str(host.root / files.CLIENT_PEM),
                    "client-key": str(host.root / files.CLIENT_PEM),
                },
            }
        ],
        "contexts": [{"name": "default-context", "context": {"cluster": "default-cluster", "user": "default-auth"}}],
        "current-context": "default-context",
    }
    _write_file(host.root / files.CA_CRT, cluster.ca)
    _write_file(host.root / files.CLIENT_PEM, pem)
    _write_file(host.root / files.KUBELET_CONFIG, yaml.safe_dump(config).encode())
    _write_file(host.root / files.KUBELET_FLAGS, f"KUBELET_KUBEADM_ARGS={shlex.quote(arguments)}\n".encode())
    _write_file(host.root / files.KUBELET_CONF, yaml.safe_dump(kubeconfig).encode())


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
