"""Kubeconfig files: one cluster and one user, with a client certificate or a token."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import yaml


def kubeconfig(server: str, ca: bytes, user: str | None = None, credentials: Mapping[str, str] | None = None) -> str:
    """Return the YAML of a kubeconfig; without a user it names only the cluster, as the ConfigMap cluster-info does."""
    config: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "sandbox" if user else "",
                "cluster": {"server": server, "certificate-authority-data": _base64(ca)},
            }
        ],
    }
    if user:
        config |= {
            "users": [{"name": user, "user": dict(credentials or {})}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user}}],
            "current-context": "sandbox",
        }
    return yaml.safe_dump(config, sort_keys=False)


def by_certificate(certificate: bytes, key: bytes) -> dict[str, str]:
    """Return the credentials of a user with a client certificate, both in PEM."""
    return {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}


def by_token(token: str) -> dict[str, str]:
    """Return the credentials of a user with a bearer token."""
    return {"token": token}


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whatever the umask is, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
    return path


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
