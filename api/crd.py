"""The CRDs, generated from the types: ``python -m api.crd`` writes ``deploy/crd/``, ``--check`` fails on drift.

It also writes the policies that warn of fields without effect, from the tables of ``api/unkept.py`` and
``api/ineffective.py``.

A structural schema is stricter than JSON Schema: no references, no unions, no titles. A field that may be None is
simply optional. The API server prunes a null that has no default, so nothing is lost.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from api import duration, ineffective, names, unkept
from api.crd_rules import (
    JOB_ADDITIONS,
    TEMPLATE_ADDITIONS,
    VM_ADDITIONS,
    Schema,
    duration_or_auto_rules,
    duration_rules,
)
from api.generated import write_or_compare
from api.model import Model
from api.spot_instance_job import SpotInstanceJobSpec, SpotInstanceJobStatus
from api.spot_instance_vm import InstanceTemplateStatus, SpotInstanceVMSpec, SpotInstanceVMStatus

DIRECTORY = Path(__file__).parent.parent / "deploy" / "crd"
WARNINGS = Path(__file__).parent.parent / "deploy" / "base" / "job-warnings.yaml"
WARNINGS_HEADER = "# Generated from api/unkept.py and api/ineffective.py by `python -m api.crd`: change those tables.\n"
HEADER = "# Generated from api/ by `python -m api.crd`: change the types or api/crd_rules.py, not this file.\n"


@dataclass(frozen=True)
class Kind:
    """One CRD."""

    name: str
    plural: str
    short: str
    spec: type[Model]
    status: type[Model]
    additions: dict[str, Schema]
    columns: list[Schema]
    scale: bool = False


def column(name: str, type_: str, path: str, *, wide: bool = False) -> Schema:
    """Make a column of ``kubectl get``; a wide one shows only with ``-o wide``."""
    return {"name": name, "type": type_, "jsonPath": path, **({"priority": 1} if wide else {})}


def _condition(type_: str, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


AGE = column("Age", "date", ".metadata.creationTimestamp")

_MACHINE_COLUMNS = [
    column("Machine", "string", ".spec.gcp.machineType"),
    column("GPU", "string", ".spec.gpu.type"),
    column("GPUs", "integer", ".spec.gpu.count"),
    column("Zone", "string", ".spec.gcp.zone"),
    AGE,
    column("Image", "string", ".spec.vmImage", wide=True),
]

KINDS = [
    Kind(
        "SpotInstanceJob",
        names.JOB_PLURAL,
        "sij",
        SpotInstanceJobSpec,
        SpotInstanceJobStatus,
        JOB_ADDITIONS,
        [
            column("Replicas", "integer", ".spec.replicas"),
            column("Active", "integer", ".status.activeReplicas"),
            column("State", "string", ".status.state"),
            column("Progress", "number", ".status.progress"),
            column("Last checkpoint", "date", ".status.lastCheckpointTime"),
            column("Preemptions", "integer", ".status.preemptions"),
            column("Cost", "string", ".status.costSoFar"),
            AGE,
            column("Message", "string", ".status.message", wide=True),
            column("Accepted", "string", _condition("Accepted", "reason"), wide=True),
            column("Image", "string", ".status.lastCheckpointImage", wide=True),
        ],
        scale=True,
    ),
    Kind(
        "SpotInstanceVM",
        names.VM_PLURAL,
        "sivm",
        SpotInstanceVMSpec,
        SpotInstanceVMStatus,
        VM_ADDITIONS,
        _MACHINE_COLUMNS,
    ),
    Kind(
        "InstanceTemplate",
        names.TEMPLATE_PLURAL,
        "itpl",
        SpotInstanceVMSpec,
        InstanceTemplateStatus,
        TEMPLATE_ADDITIONS,
        [*_MACHINE_COLUMNS, column("Mirrored", "string", _condition("Mirrored"))],
    ),
]


def main(words: list[str] | None = None) -> int:
    """Write the CRDs and the policies that warn, or compare them; return the exit code."""
    return write_or_compare("api.crd", files(), words)


def files() -> dict[Path, str]:
    """List every generated file with its content."""
    crds = {DIRECTORY / f"{names.GROUP}_{kind.plural}.yaml": render(kind) for kind in KINDS}
    return crds | {WARNINGS: WARNINGS_HEADER + "---\n".join(map(_yaml, (*unkept.policy(), *ineffective.policies())))}


def render(kind: Kind) -> str:
    """Write the CRD's YAML."""
    return HEADER + _yaml(manifest(kind))


def _yaml(document: Schema) -> str:
    return yaml.dump(document, sort_keys=False, width=120, allow_unicode=True, Dumper=_Dumper)


def manifest(kind: Kind) -> Schema:
    """Build the CustomResourceDefinition as an object."""
    subresources: Schema = {"status": {}}
    if kind.scale:
        subresources["scale"] = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}", "labels": {"app.kubernetes.io/name": "outlast"}},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["outlast"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": kind.columns,
                    "schema": {"openAPIV3Schema": schema(kind)},
                }
            ],
        },
    }


def schema(kind: Kind) -> Schema:
    """Build the structural schema of a kind, with the additions laid over what the types say."""
    root: Schema = {
        "type": "object",
        "description": kind.spec.__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": _without_defaults(structural(kind.status)),
        },
    }
    for path, addition in kind.additions.items():
        node = root
        for step in path.split(".") if path else []:
            node = node["properties"][step]
        node.update(addition)
        for key in [key for key, value in addition.items() if value is None]:
            del node[key]
    return root


def structural(model: type[Model]) -> Schema:
    """Convert a model's JSON Schema to the form that a CRD may have."""
    document = model.model_json_schema(by_alias=True)
    definitions = document.pop("$defs", {})
    return _convert(document, definitions)


def _convert(node: Schema, definitions: Schema) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return _convert({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    if "anyOf" in node:
        (choice,) = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _convert({**choice, **rest}, definitions)

    result: Schema = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _convert(child, definitions) for name, child in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            result[key] = _convert(value, definitions)
        elif key == "additionalProperties":
            result["x-kubernetes-preserve-unknown-fields"] = value
        elif key == "pattern" and "x-kubernetes-validations" in node:
            continue  # the format's rule says the same, and also what to write
        elif key == "pattern" and value == duration.PATTERN:
            result["x-kubernetes-validations"] = duration_rules(value)
        elif key == "pattern" and value == duration.PATTERN_OR_AUTO:
            result["x-kubernetes-validations"] = duration_or_auto_rules(duration.AUTO, duration.PATTERN)
        elif key == "description":
            result[key] = value.replace("``", "'")
        elif key == "default" and value in (None, "", [], {}):
            continue  # absent means the same, and stays out of people's `kubectl get -o yaml`
        elif key != "title":
            result[key] = value
    return result


def _without_defaults(node: Any) -> Any:
    """Remove the defaults: a status contains what was found, so the API server must not make any of it up."""
    if isinstance(node, list):
        return [_without_defaults(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_defaults(value) for key, value in node.items() if key != "default"}


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and indents lists under their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


if __name__ == "__main__":
    sys.exit(main())
