"""A JoinConfiguration (kubeadm.k8s.io/v1beta3 and v1beta4), from a file or from flags, and its validation."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from sandbox.machines.light.kubeadm.host import KubeadmError, Print
from sandbox.machines.light.kubeadm.schema import load

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_CA_HASH = re.compile(r"sha256:[0-9a-f]{64}", re.IGNORECASE)
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ENDPOINT = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):\d{1,5}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


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


def from_arguments(
    argv: Sequence[str], hostname: str, cwd: Path, resolve: Callable[[str, Path], Path], warn: Print
) -> JoinConfiguration:
    """Read the configuration from the arguments of ``kubeadm join``.

    Raises:
        KubeadmError: the real kubeadm would refuse the arguments, the file or a value, too.
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
    document = load(text, warn)
    directory = document.get("patches", {}).get("directory") or options.patches
    return _build(document, options, hostname, resolve(directory, cwd) if directory else None)


def seconds(duration: str) -> float:
    """Convert a Go duration such as ``5m0s`` to seconds.

    Raises:
        KubeadmError: it is not a duration.
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
