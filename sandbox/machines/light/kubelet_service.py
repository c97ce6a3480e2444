"""kubelet.service of a VM: it starts with what a join has left on the disk, and refuses what the real one refuses."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox.gpu_operator import GPU_LABEL
from sandbox.machines import MachineSpec
from sandbox.machines.light.kubeadm import host as files
from sandbox.machines.light.kubeadm.config import seconds
from sandbox.machines.light.kubelet import Kubelet, KubeletConfig

_FLAGS = frozenset(
    {
        *("cert-dir", "cloud-provider", "config", "container-runtime-endpoint", "fail-swap-on", "feature-gates"),
        *("hostname-override", "image-credential-provider-bin-dir", "image-credential-provider-config"),
        *("kube-reserved", "kubeconfig", "max-pods", "node-ip", "node-labels", "node-status-update-frequency"),
        *("pod-infra-container-image", "provider-id", "register-node", "register-with-taints", "resolv-conf"),
        *("root-dir", "rotate-certificates", "runtime-cgroups", "system-reserved", "v", "volume-plugin-dir"),
    }
)
"""The flags of a kubelet that are known here. An unknown flag prevents the real one from starting, too."""

_OWN_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)
"""The labels in kubernetes.io that a kubelet may give its own Node."""


class KubeletUnit:
    """The kubelet of one VM, as systemd sees it."""

    def __init__(self, spec: MachineSpec, root: Path, metadata_host: str, speed: float) -> None:
        self._spec = spec
        self._root = root
        self._metadata_host = metadata_host
        self._speed = speed
        self._kubelet: Kubelet | None = None
        self._starting: asyncio.Task[None] | None = None
        self.state = "inactive"
        """What ``systemctl is-active`` prints: inactive, activating, active or failed."""

    @property
    def active(self) -> bool:
        """True if it runs."""
        return self.state in {"active", "activating"}

    @property
    def configured(self) -> bool:
        """True if the machine has joined a cluster."""
        return (self._root / files.KUBELET_CONF).exists()

    async def start(self) -> None:
        """Start it; returns once its Node is registered. It goes on starting even if its caller goes away.

        Raises:
            RuntimeError: its configuration is wrong, or it cannot register.
        """
        if not self.active:
            self.state = "activating"
            self._starting = asyncio.create_task(self._start(), name=f"kubelet of {self._spec.name}")
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        if self._starting is not None:
            await asyncio.shield(self._starting)

    async def shut_down(self, grace: float) -> None:
        """End the pods within ``grace`` real seconds: a graceful node shutdown."""
        if self._kubelet is not None and self.state == "active":
            await self._kubelet.shutdown(grace)

    async def stop(self) -> None:
        """Stop it at once."""
        self.state = "inactive"
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.wait({starting})
        await self._kill()

    async def _start(self) -> None:
        try:
            self._kubelet = self._make()
            await self._kubelet.start()
        except (RuntimeError, OSError, TimeoutError, ValueError, LookupError, yaml.YAMLError) as error:
            await self._kill()
            self.state = "failed"
            raise RuntimeError(str(error) or type(error).__name__) from error
        self.state = "active"

    async def _kill(self) -> None:
        kubelet, self._kubelet = self._kubelet, None
        if kubelet is not None:
            await kubelet.kill()

    def _make(self) -> Kubelet:
        if not self.configured:
            raise RuntimeError(
                "failed to load kubelet config file: /var/lib/kubelet/config.yaml: no such file or directory"
            )
        flags = self._flags()
        written: dict[str, Any] = yaml.safe_load((self._root / files.KUBELET_CONFIG).read_text()) or {}
        kubeconfig = yaml.safe_load((self._root / files.KUBELET_CONF).read_text())
        config = KubeletConfig(
            node_name=flags.get("hostname-override", self._spec.name),
            address=self._spec.address,
            api_server=kubeconfig["clusters"][0]["cluster"]["server"],
            ca_file=self._root / files.CA_CRT,
            client_cert_file=self._root / files.CLIENT_PEM,
            client_key_file=self._root / files.CLIENT_PEM,
            gpu_count=self._spec.gpu_count,
            provider_id=flags.get("provider-id"),
            node_labels={**node_labels(flags.get("node-labels", "")), **self._gpu_labels},
            taints=taints(flags.get("register-with-taints", "")),
            root=self._root,
            environment={"GCE_METADATA_HOST": self._metadata_host},
            speed=self._speed,
            shutdown_grace=seconds(written.get("shutdownGracePeriod") or "0s"),
        )
        return Kubelet(config)

    @property
    def _gpu_labels(self) -> Mapping[str, str]:
        return node_labels(GPU_LABEL) if self._spec.gpu_count else {}

    def _flags(self) -> dict[str, str]:
        """Return the flags in kubeadm-flags.env."""
        _, _, value = (self._root / files.KUBELET_FLAGS).read_text().partition("=")
        flags: dict[str, str] = {}
        for argument in shlex.split("".join(shlex.split(value))):
            name, _, content = argument.removeprefix("--").partition("=")
            if name not in _FLAGS:
                raise RuntimeError(f"failed to parse kubelet flag: unknown flag: --{name}")
            flags[name] = content
        return flags


def node_labels(text: str) -> Mapping[str, str]:
    """Parse ``--node-labels``.

    Raises:
        RuntimeError: a kubelet may not give itself such a label in kubernetes.io.
    """
    labels = {name: value for name, _, value in (pair.partition("=") for pair in text.split(",") if pair)}
    unknown = sorted(label for label in labels if not _may_set(label))
    if unknown:
        raise RuntimeError(
            f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: {unknown}. --node-labels in the "
            "'kubernetes.io' namespace must begin with an allowed prefix (kubelet.kubernetes.io, node.kubernetes.io) "
            f"or be in the specifically allowed set ({', '.join(sorted(_OWN_LABELS))})"
        )
    return labels


def taints(text: str) -> list[dict[str, str]]:
    """Parse ``--register-with-taints``: ``key=value:Effect``, separated by commas.

    Raises:
        RuntimeError: a taint is malformed.
    """
    found = []
    for item in text.split(","):
        if not item:
            continue
        rest, _, effect = item.rpartition(":")
        key, _, value = rest.partition("=")
        if not key or effect not in {"NoSchedule", "PreferNoSchedule", "NoExecute"}:
            raise RuntimeError(f"invalid taint in --register-with-taints: {item}")
        found.append({"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect})
    return found


def _may_set(label: str) -> bool:
    domain = label.rpartition("/")[0]
    if not any(domain == reserved or domain.endswith("." + reserved) for reserved in ("kubernetes.io", "k8s.io")):
        return True
    allowed = ("kubelet.kubernetes.io", "node.kubernetes.io")
    return label in _OWN_LABELS or any(domain == prefix or domain.endswith("." + prefix) for prefix in allowed)
