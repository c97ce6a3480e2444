"""A JoinConfiguration (kubeadm.k8s.io/v1beta3 and v1beta4), from a file or from flags, read strictly.

The real kubeadm only warns of unknown fields; here they are errors, so that a misspelt one is found in the sandbox.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from sandbox.machines.light.kubeadm.host import KubeadmError

API_VERSIONS = ("kubeadm.k8s.io/v1beta4", "kubeadm.k8s.io/v1beta3")

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_CA_HASH = re.compile(r"sha256:[0-9a-f]{64}", re.IGNORECASE)
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ENDPOINT = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):\d{1,5}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

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


@dataclass(frozen=True)
class JoinConfiguration:
    """What to join, and as what. Timeouts are in emulated seconds."""

    token: str
    endpoint: str
    ca_hashes: tuple[str, ...]
    node_name: str
    taints: tuple[Mapping[str, str], ...] = ()
    kubelet_args: Mapping[str, str] = field(default_factory=dict)
    ignore_errors: frozenset[str] = frozenset()
    patches: Path | None = None
    cri_socket: str = ""
    discovery_seconds: float = 300.0
    tls_bootstrap_seconds: float = 300.0

    @property
    def token_id(self) -> str:
        """The public half of the token."""
        return self.token.partition(".")[0]

    @property
    def token_secret(self) -> str:
        """The secret half of the token."""
        return self.token.partition(".")[2]


def from_arguments(argv: Sequence[str], hostname: str, cwd: Path, resolve: Any, warn: Any) -> JoinConfiguration:
    """The configuration that `kubeadm join`'s arguments say.

    Raises:
        KubeadmError: for arguments, a file or values that the real one refuses too.
    """
    options = _parse_flags(argv)
    if options.config is None:
        document: dict[str, Any] = {
            "discovery": {
                "bootstrapToken": {
                    "token": options.discovery_token or options.token or "",
                    "apiServerEndpoint": options.endpoint or "",
                    "caCertHashes": options.discovery_token_ca_cert_hash,
                    "unsafeSkipCAVerification": options.discovery_token_unsafe_skip_ca_verification,
                }
            },
            "nodeRegistration": {},
        }
        return _build(document, options, hostname, None)
    given = [name for name in ("token", "discovery_token", "endpoint") if getattr(options, name)]
    if given:
        raise KubeadmError(f"can not mix '--config' with arguments [{given[0].replace('_', '-')}]", 3)
    path = resolve(options.config, cwd)
    try:
        text = path.read_text()
    except OSError as error:
        raise KubeadmError(f"unable to read config from {options.config!r}: {error.strerror}") from error
    document = _load(text, warn)
    directory = document.get("patches", {}).get("directory") or options.patches
    return _build(document, options, hostname, resolve(directory, cwd) if directory else None)


def seconds(duration: str) -> float:
    """A Go duration such as `5m0s`, in seconds.

    Raises:
        KubeadmError: when it is not one.
    """
    if duration == "0":
        return 0.0
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", duration):
        raise KubeadmError(f'time: invalid duration "{duration}"', 3)
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))


class _Flags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise KubeadmError(f"{message}\nTo see the stack trace of this error execute with --v=5 or higher")


def _parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    flags = _Flags(prog="kubeadm join", add_help=False, allow_abbrev=False)
    flags.add_argument("endpoint", nargs="?")
    flags.add_argument("--config")
    flags.add_argument("--token")
    flags.add_argument("--discovery-token")
    flags.add_argument("--discovery-token-ca-cert-hash", action="append", default=[])
    flags.add_argument("--discovery-token-unsafe-skip-ca-verification", action="store_true")
    flags.add_argument("--node-name")
    flags.add_argument("--cri-socket")
    flags.add_argument("--patches")
    flags.add_argument("--ignore-preflight-errors", action="append", default=[])
    flags.add_argument("-v", "--v", type=int)
    return flags.parse_args(list(argv))


def _load(text: str, warn: Any) -> dict[str, Any]:
    """The JoinConfiguration among the YAML documents of `text`."""
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


def _build(
    document: dict[str, Any], options: argparse.Namespace, hostname: str, patches: Path | None
) -> JoinConfiguration:
    discovery = document.get("discovery") or {}
    bootstrap = discovery.get("bootstrapToken") or {}
    registration = document.get("nodeRegistration") or {}
    extra = registration.get("kubeletExtraArgs") or {}
    timeouts = document.get("timeouts") or {}
    token = discovery.get("tlsBootstrapToken") or bootstrap.get("token") or ""
    ignored = [name for names in options.ignore_preflight_errors for name in names.split(",")]
    configuration = JoinConfiguration(
        token=bootstrap.get("token") or "",
        endpoint=bootstrap.get("apiServerEndpoint") or "",
        ca_hashes=tuple(hash_.lower() for hash_ in bootstrap.get("caCertHashes") or ()),
        node_name=options.node_name or registration.get("name") or hostname,
        taints=tuple(registration.get("taints") or ()),
        kubelet_args=dict(extra) if isinstance(extra, dict) else {arg["name"]: arg["value"] for arg in extra},
        ignore_errors=frozenset(
            name.lower() for name in (*ignored, *(registration.get("ignorePreflightErrors") or ()))
        ),
        patches=patches,
        cri_socket=options.cri_socket or registration.get("criSocket") or "",
        discovery_seconds=seconds(timeouts.get("discovery") or discovery.get("timeout") or "5m0s"),
        tls_bootstrap_seconds=seconds(timeouts.get("tlsBootstrap") or "5m0s"),
    )
    _validate(configuration, token, unsafe=bool(bootstrap.get("unsafeSkipCAVerification")))
    return configuration


def _validate(configuration: JoinConfiguration, tls_token: str, *, unsafe: bool) -> None:
    problems = []
    if not configuration.token:
        problems.append('discovery: Invalid value: "": bootstrapToken or file must be set')
    elif not _TOKEN.fullmatch(configuration.token) or not _TOKEN.fullmatch(tls_token):
        problems.append('discovery.bootstrapToken.token: Invalid value: "": the bootstrap token is invalid')
    if not configuration.endpoint:
        problems.append("discovery.bootstrapToken.apiServerEndpoint: Required value: APIServerEndpoint is not set")
    elif not _ENDPOINT.fullmatch(configuration.endpoint):
        problems.append(
            f'discovery.bootstrapToken.apiServerEndpoint: Invalid value: "{configuration.endpoint}": '
            "address must be of the form host:port"
        )
    if not configuration.ca_hashes and not unsafe:
        problems.append(
            'discovery.bootstrapToken.caCertHashes: Invalid value: "": using token-based discovery without '
            "caCertHashes can be unsafe. Set unsafeSkipCAVerification as true in your kubeadm config file or pass "
            "--discovery-token-unsafe-skip-ca-verification flag to continue"
        )
    problems += [
        f'discovery.bootstrapToken.caCertHashes: Invalid value: "{hash_}": invalid public key hash, expected '
        '"sha256:<64 hex digits>"'
        for hash_ in configuration.ca_hashes
        if not _CA_HASH.fullmatch(hash_)
    ]
    if not _NODE_NAME.fullmatch(configuration.node_name) or len(configuration.node_name) > 253:
        problems.append(
            f'nodeRegistration.name: Invalid value: "{configuration.node_name}": a lowercase RFC 1123 subdomain '
            "must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
            "alphanumeric character"
        )
    if problems:
        raise KubeadmError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]", 3)
