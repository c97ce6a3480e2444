"""Grants of the worker's own cloud identity to namespaces. Pure.

A job that names no Secret for a project or a bucket would reach it as the worker, whoever wrote the job. So an
installation lists which namespaces may do that, and for what. Its own namespace may reach all that the worker reaches.
"""

import re
from dataclasses import dataclass, field

from activities.signatures import NotLent
from api import reasons
from api.common import not_accepted

SETTING = "OUTLAST_IDENTITY_GRANTS"
EXAMPLE = "ml: gcp://my-project gs://my-bucket"

_NAMESPACE = re.compile(r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")
_GRANT = re.compile(r"^(gcp|gs|s3|azure)://(\*|[A-Za-z0-9][A-Za-z0-9.:_-]*)$")
_FIELDS = {"gcp": "gcpCredentialsSecretRef", "gs": "gcpCredentialsSecretRef or checkpointStorage.credentialsSecretRef"}


@dataclass(frozen=True)
class Grants:
    """What each namespace may reach as the worker (``*``: every namespace); ``own`` may reach everything."""

    own: str = ""
    by_namespace: dict[str, frozenset[str]] = field(default_factory=dict)

    def permits(self, namespace: str, wanted: str) -> bool:
        """True if jobs of a namespace may reach this, for example ``gs://my-bucket``, as the worker."""
        if namespace == self.own:
            return True
        lent = self.by_namespace.get(namespace, frozenset()) | self.by_namespace.get("*", frozenset())
        return wanted in lent or f"{wanted.partition('://')[0]}://*" in lent


def parse_grants(text: str, own: str) -> Grants:
    """Read ``OUTLAST_IDENTITY_GRANTS``: each line names a namespace and what is lent to it; ``#`` begins a comment.

    Raises:
        ValueError: a line cannot be read; the message names the setting.
    """
    lent: dict[str, frozenset[str]] = {}
    for line in re.split(r"[\n;]", text):
        namespace, colon, rest = line.partition("#")[0].strip().partition(":")
        if not namespace and not colon:
            continue
        words = [word for word in re.split(r"[\s,]+", rest) if word]
        namespace = namespace.strip().strip("'\"")
        wrong = [word for word in words if not _GRANT.match(word)]
        if not _NAMESPACE.match(namespace) or not words or wrong:
            raise ValueError(f"{SETTING}: cannot read {line.strip()!r}; write a line such as {EXAMPLE!r}")
        lent[namespace] = lent.get(namespace, frozenset()) | frozenset(words)
    return Grants(own, lent)


def not_lent(wanted: str, namespace: str) -> NotLent:
    """Explain that a job of ``namespace`` may not reach something as the worker."""
    secret = _FIELDS.get(wanted.partition("://")[0], "checkpointConfig.checkpointStorage.credentialsSecretRef")
    message = (
        f"no Secret is named for {wanted}, and Outlast does not lend namespace {namespace} its own identity for it: "
        f"set {secret}, or ask whoever runs Outlast to add the line '{namespace}: {wanted}' to {SETTING} in the "
        "ConfigMap outlast-settings"
    )
    return NotLent(wanted=wanted, problem=not_accepted(reasons.IDENTITY_NOT_LENT, message))
