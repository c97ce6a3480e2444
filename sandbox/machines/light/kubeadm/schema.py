"""The schema of a JoinConfiguration file (kubeadm.k8s.io/v1beta3 and v1beta4), and its strict reading.

The real kubeadm only warns about unknown fields. Here they are errors, so that the sandbox finds a misspelt one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from sandbox.machines.light.kubeadm.host import KubeadmError, Print

API_VERSIONS = ("kubeadm.k8s.io/v1beta4", "kubeadm.k8s.io/v1beta3")

_TAINT = {"key": str, "value": str, "effect": str}
_NODE_REGISTRATION = {
    "name": str,
    "criSocket": str,
    "taints": [_TAINT],
    "ignorePreflightErrors": [str],
    "imagePullPolicy": str,
}
_DISCOVERY = {
    "bootstrapToken": {
        "token": str,
        "apiServerEndpoint": str,
        "caCertHashes": [str],
        "unsafeSkipCAVerification": bool,
    },
    "tlsBootstrapToken": str,
}
_COMMON = {
    "apiVersion": str,
    "kind": str,
    "caCertPath": str,
    "skipPhases": [str],
    "patches": {"directory": str},
    "discovery": _DISCOVERY,
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "kubeadm.k8s.io/v1beta3": _COMMON
    | {
        "nodeRegistration": _NODE_REGISTRATION | {"kubeletExtraArgs": Mapping},
        "discovery": _DISCOVERY | {"timeout": str},
    },
    "kubeadm.k8s.io/v1beta4": _COMMON
    | {
        "nodeRegistration": _NODE_REGISTRATION
        | {"kubeletExtraArgs": [{"name": str, "value": str}], "imagePullSerial": bool},
        "timeouts": dict.fromkeys(
            (
                "controlPlaneComponentHealthCheck",
                "kubeletHealthCheck",
                "kubernetesAPICall",
                "etcdAPICall",
                "tlsBootstrap",
                "discovery",
                "upgradeManifests",
            ),
            str,
        ),
    },
}


def load(text: str, warn: Print) -> dict[str, Any]:
    """Return the JoinConfiguration among the YAML documents of ``text``.

    Raises:
        KubeadmError: there is none, or it does not match its schema.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise KubeadmError(f"error converting YAML to JSON: {error}", 3) from error
    found: dict[str, Any] | None = None
    for document in documents:
        version, kind = (
            (document.get("apiVersion"), document.get("kind")) if isinstance(document, dict) else (None, None)
        )
        if kind == "JoinConfiguration" and version in API_VERSIONS:
            found = document
        elif kind == "JoinConfiguration":
            raise KubeadmError(
                f'your configuration file uses an API spec: "{version}". Please use kubeadm v1.36 instead and run '
                "'kubeadm config migrate --old-config old.yaml --new-config new.yaml'"
            )
        else:
            warn(f"[config] WARNING: Ignored YAML document with GroupVersionKind {version}, Kind={kind}")
    if found is None:
        raise KubeadmError("no InitConfiguration or JoinConfiguration kind was found in the YAML file", 3)
    _check(found, _SCHEMAS[found["apiVersion"]], "")
    return found


def _check(value: Any, schema: Any, path: str) -> None:
    if value is None:
        return
    if isinstance(schema, dict):
        _expect(isinstance(value, dict), path, "a mapping", value)
        for name, content in value.items():
            if name not in schema:
                raise KubeadmError(
                    f'error unmarshaling JoinConfiguration: strict decoding error: unknown field "{path}{name}"', 3
                )
            _check(content, schema[name], f"{path}{name}.")
    elif isinstance(schema, list):
        _expect(isinstance(value, list), path, "a list", value)
        for index, item in enumerate(value):
            _check(item, schema[0], f"{path.rstrip('.')}[{index}].")
    elif schema is Mapping:
        _expect(isinstance(value, dict) and all(isinstance(v, str) for v in value.values()), path, "strings", value)
    else:
        _expect(isinstance(value, schema), path, f"a {schema.__name__}", value)


def _expect(condition: bool, path: str, wanted: str, value: Any) -> None:
    if not condition:
        raise KubeadmError(
            f"json: cannot unmarshal {type(value).__name__} into Go struct field JoinConfiguration.{path.rstrip('.')}: "
            f"expected {wanted}",
            3,
        )
