"""The schema of the chart's values: what is refused before anything is installed."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def _object(properties: Json, **more: Any) -> Json:
    return {"type": "object", "additionalProperties": False, "properties": properties, **more}


def _text(about: str, **more: Any) -> Json:
    return {"type": "string", "description": about, **more}


def _switch(about: str) -> Json:
    return {"type": "boolean", "description": about}


def _names(about: str) -> Json:
    item = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}
    return {"type": "array", "uniqueItems": True, "items": item, "description": about}


def _any(about: str, type_: str = "object") -> Json:
    return {"type": type_, "description": about}


_SECRET = {"pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "maxLength": 253}
_REPLICAS = {"type": "integer", "minimum": 1, "description": "how many pods"}
_RESOURCES = _any("requests and limits of the container, as Kubernetes has them")


def schema(settings: list[str]) -> Json:
    """Return the schema; ``settings`` are the names of the variables that may be set."""
    value = {"type": ["string", "number", "boolean"]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart outlast",
        **_object(
            {
                "global": _any("Helm's own"),
                "image": _object(
                    {
                        "repository": _text("the image without its tag", minLength=1, pattern="^[^@ ]+$"),
                        "tag": _text("the version of the chart if empty", pattern=r"^[A-Za-z0-9_.-]{0,128}$"),
                        "digest": _text("comes before the tag", pattern="^(sha256:[0-9a-f]{64})?$"),
                        "pullSecrets": _names("Secrets of the namespace by which all pods pull the image"),
                    },
                    required=["repository"],
                ),
                "settings": _object(
                    dict.fromkeys(settings, value),
                    description="variables of docs/settings.md",
                    required=["TEMPORAL_ADDRESS"],
                ),
                "secrets": _object(
                    {
                        "ssh": _text("contains ssh-privatekey", minLength=1, **_SECRET),
                        "temporal": _text(
                            "contains TEMPORAL_API_KEY, TEMPORAL_TLS_…; may be missing", minLength=1, **_SECRET
                        ),
                        "payloadKeys": _text("contains the file keys; payloads are encrypted", **_SECRET),
                    }
                ),
                "worker": _object(
                    {
                        "replicas": _REPLICAS,
                        "resources": _RESOURCES,
                        "serviceAccountAnnotations": _any("such as those of Workload Identity"),
                    }
                ),
                "bridge": _object({"replicas": _REPLICAS, "resources": _RESOURCES}),
                "agent": _object({"enabled": _switch("false if it is installed in another namespace")}),
                "nodeSelector": _any("of all pods but the agents'"),
                "tolerations": _any("of all pods but the agents'", "array"),
                "ownIdentity": _switch("let the worker reach the metadata server, for an identity of its own"),
                "namespaces": _object(
                    {
                        "jobs": _names("the only namespaces in which jobs may be; empty: all"),
                        "sharing": _names("namespaces that share Secrets and have no jobs"),
                    }
                ),
                "networkPolicy": _object(
                    {
                        "enabled": _switch("restrict what the pods may connect to"),
                        "ports": {
                            "type": "array",
                            "items": {"type": "integer", "minimum": 1, "maximum": 65535},
                            "description": "more TCP ports to which they may",
                        },
                    }
                ),
                "podMonitor": _object(
                    {
                        "enabled": _switch("needs the CRDs of the Prometheus operator"),
                        "labels": _any("by which a Prometheus selects them"),
                    }
                ),
            }
        ),
    }
