"""What types cannot say and a CRD can: rules in CEL, the shape of ``jobTemplate``, lists that merge by key.

Each entry of ``ADDITIONS`` is laid over the schema at that path of that kind; None removes a key. People read a message
right behind "<path>: Invalid value: …", so it says what is expected and the way out. The API server refuses a CRD with
rules that could become expensive, so everything that a rule compares has a limited size.
"""

from typing import Any

from api import fixed, gang
from api.duration import PATTERN
from api.fixed import Fixed
from api.formats import NAME, Format, formats_in
from api.model import Model
from api.spot_instance_job import ONE_REF, TEMPLATE_REF, VM_REF, SpotInstanceJobSpec
from api.spot_instance_vm import SpotInstanceVMSpec

Schema = dict[str, Any]


def rule(expression: str, message: str) -> Schema:
    """Make one CEL rule over ``self`` (and ``oldSelf``, which makes it a rule about changes)."""
    return {"rule": expression, "message": message}


def duration_rules(pattern: str) -> list[Schema]:
    """Demand a Go duration of at least a second; the pattern's own error would show a regular expression."""
    right = f"self.matches(r'{pattern}')"
    return [
        rule(right, 'not a duration: write for example "30m" or "1h30m"'),
        rule(f"!{right} || duration(self) >= duration('1s')", 'too short: a second ("1s") is the least'),
    ]


def duration_or_auto_rules(word: str, pattern: str) -> list[Schema]:
    """Demand the same as ``duration_rules``, or one word that stands for a duration yet to be found."""
    right, least = duration_rules(pattern)
    told = f'{right["message"]}, or "{word}" to have it tuned to what is measured'
    return [
        rule(f"self == '{word}' || {right['rule']}", told),
        rule(f"self == '{word}' || {least['rule']}", least["message"]),
    ]


def _stays(spec: type[Model], field: Fixed, listed: str, while_: str) -> Schema:
    """Refuse an edit of a field while the status lists something at ``listed``; what never worked may be corrected.

    It is a rule of the whole object, because only that sees the status, and because a rule of an optional field is not
    evaluated when the field is added or removed. What contains a fixed field is required, so it exists.
    """
    new, old, items = f"self.spec.{field.path}", f"oldSelf.spec.{field.path}", f"oldSelf.status.{listed}"
    free = [f"!has(oldSelf.status) || !has({items}) || {items}.size() == 0"]
    if field.from_start:
        free.append("(has(oldSelf.status.started) && !oldSelf.status.started)")
    paths = [f"{field.path}.{part}" for part in field.parts] or [field.path]
    free += [_misshapen(f"oldSelf.spec.{at}", how) for path in paths for at, how in formats_in(spec, path)]
    same = f"({_same(new, old)})"
    if field.parts:
        parts = " && ".join(_same(f"{new}.{part}", f"{old}.{part}") for part in field.parts)
        same = f"!has({old}) || (has({new}) && {parts})"
    return rule(" || ".join([*free, same]), field.message(while_))


def _misshapen(at: str, how: Format) -> str:
    """Write that the value exists and lacks its format; a field named like a word of CEL is escaped."""
    at = at.replace(".namespace", ".__namespace__")
    parent = at.rpartition(".")[0]
    return f"(has({parent}) && has({at}) && !({how.rule_of(at)}))"


def _same(new: str, old: str) -> str:
    """Write that both exist and are equal, or neither exists."""
    return f"has({new}) == has({old}) && (!has({old}) || {new} == {old})"


def _keyed(key: str) -> Schema:
    """Make a list that server-side apply merges entry by entry."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

_CONTAINER: Schema = {
    **_OPEN,
    "required": ["name", "image"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 63, "description": "its name"},
        "image": {"type": "string", "minLength": 1, "maxLength": 500, "description": "its image, as in any pod"},
    },
}

_POD_TEMPLATE: Schema = {
    **_OPEN,
    "description": "the pod of each copy",
    "required": ["spec"],
    "properties": {
        "spec": {
            **_OPEN,
            "required": ["containers"],
            "description": "the PodSpec of each copy, as in any Job",
            "properties": {
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 32,
                    "items": _CONTAINER,
                    "description": "the training, and what runs beside it",
                }
            },
        }
    },
}

_JOB_TEMPLATE: Schema = {
    **_OPEN,
    "required": ["spec"],
    "properties": {
        "spec": {
            **_OPEN,
            "required": ["template"],
            "description": "batch/v1 JobSpec; at apply you are warned of fields without effect",
            "properties": {
                "parallelism": {"type": "integer", "description": "pods that train together as one: a gang"},
                "completions": {"type": "integer", "description": "as many as parallelism; leave it out"},
                "completionMode": {
                    "type": "string",
                    "maxLength": 32,
                    "description": "Indexed: the pods of a gang, each of which learns its rank",
                },
                "backoffLimit": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "failures of the training itself, if spec.maxRestarts does not say",
                },
                "template": _POD_TEMPLATE,
            },
        }
    },
}

_CHECKPOINT_CONFIG: Schema = {
    "x-kubernetes-validations": [
        rule(
            "self.mode != 'Image' || has(self.checkpointImageRepo)",
            "checkpointImageRepo is missing: mode Image keeps checkpoints as images, name the repository to push them "
            "to, or set mode Application",
        ),
        rule(
            "self.mode != 'Application' || has(self.checkpointStorage)",
            "checkpointStorage is missing: in mode Application the training keeps its checkpoints in that bucket",
        ),
        rule(
            "self.mode != 'Application' || !has(self.checkpointStorage) || "
            "self.checkpointStorage.type in ['gcs', 's3', 'azure']",
            "checkpointStorage.type is none of gcs, s3, azure: in mode Application Outlast reads the bucket",
        ),
        rule(
            "self.mode == 'Application' || !has(self.checkpointStorage) || self.checkpointStorage.layout == 'Outlast'",
            "checkpointStorage.layout says how a training saves itself, which is mode Application: leave layout out, "
            "or set that mode",
        ),
    ]
}

_JOB = "self.jobTemplate.spec"
_AT_ONCE = f"(has({_JOB}.parallelism) ? {_JOB}.parallelism : 1)"
_MEMBERS = f"(has(self.gang) ? self.gang.maxSize : {_AT_ONCE})"
_INDEXED = f"(has({_JOB}.completionMode) && {_JOB}.completionMode == 'Indexed')"
_IS_GANG = f"(has(self.gang) || {_AT_ONCE} > 1 || {_INDEXED})"

_MEMBERS_RULES = [
    rule(f"!{_IS_GANG} || self.replicas == 1", gang.ONE_REPLICA),
    rule(f"!{_IS_GANG} || self.checkpointConfig.mode == 'Application'", gang.SAVES_ITSELF),
    rule(f"{_AT_ONCE} <= {gang.LARGEST}", gang.TOO_MANY),
    rule(
        f"!has(self.gang) || !has({_JOB}.parallelism) || {_JOB}.parallelism == self.gang.maxSize",
        gang.ANOTHER_PARALLELISM,
    ),
    rule(
        f"!has({_JOB}.completions) || {_JOB}.completions == {_MEMBERS} || (!{_IS_GANG} && {_JOB}.completions <= 1)",
        gang.ANOTHER_COMPLETIONS,
    ),
]
"""Rules of a replica of several pods; those of one pod are as before."""

_GANG: Schema = {
    "x-kubernetes-validations": [
        rule("self.minSize <= self.maxSize", gang.MIN_ABOVE_MAX),
    ]
}

JOB_ADDITIONS: dict[str, Schema] = {
    "": {
        "x-kubernetes-validations": [
            rule(
                "self.metadata.name.size() <= 40",
                "metadata.name is longer than 40 characters, but names of Jobs and VMs are made from it: shorten it",
            ),
            rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must be lower case letters, digits and '-', begin with a letter and end with a letter "
                "or a digit, because names of Jobs and VMs are made from it",
            ),
            *(_stays(SpotInstanceJobSpec, field, "jobStatuses", fixed.JOB_BEGUN) for field in fixed.JOB),
        ]
    },
    "spec": {
        "required": ["jobTemplate", "checkpointConfig"],  # and one of the two references
        "x-kubernetes-validations": [
            rule(f"has(self.{VM_REF}) != has(self.{TEMPLATE_REF})", ONE_REF),
            rule(
                "!has(self.outputs) || self.outputs.size() == 0 || has(self.checkpointConfig.checkpointStorage)",
                "outputs are uploaded to checkpointConfig.checkpointStorage, which is missing: name a bucket",
            ),
            *_MEMBERS_RULES,
        ],
    },
    "spec.gang": _GANG,
    "spec.jobTemplate": _JOB_TEMPLATE,
    "spec.checkpointConfig": _CHECKPOINT_CONFIG,
    "spec.checkpointConfig.progress.logPattern": {
        "x-kubernetes-validations": [
            rule(r"self.matches('[(]')", r"a group that matches the number is missing: write for example step=(\d+)")
        ]
    },
    "status.conditions": _keyed("type"),
    "status.jobStatuses": _keyed("name"),
}

VM_ADDITIONS: dict[str, Schema] = {
    "": {
        "x-kubernetes-validations": [
            _stays(SpotInstanceVMSpec, field, "provisionedInstances", fixed.VM_IN_USE) for field in fixed.VM
        ]
    },
    "spec": {
        "x-kubernetes-validations": [
            rule(
                "!has(self.preemptible) || self.preemptible || !has(self.onDemandFallback)",
                "onDemandFallback applies when no spot VM can be had, and with preemptible: false none is bought: "
                "leave out one of the two",
            )
        ]
    },
    "spec.gcp": {
        "x-kubernetes-validations": [
            rule(
                "!has(self.region) || self.zone.startsWith(self.region + '-')",
                "region and zone do not match: leave region out, it is derived from zone",
            )
        ]
    },
    "spec.gcp.preemptionNoticeDuration": {
        "x-kubernetes-validations": [
            rule(
                f"self.matches(r'{PATTERN}') && (duration(self) == duration('0s') || duration(self) == "
                "duration('120s'))",
                'GCE knows two notices: write "120s", or leave it out for none',
            )
        ]
    },
    # A name, or an object with one. A structural schema has no unions, and no rule in CEL sees a field without a type.
    # Both keywords say nothing about values of other types, which the worker refuses.
    "spec.kubeadmJoinConfig.tokenSecretRef": {
        "type": None,
        "x-kubernetes-preserve-unknown-fields": True,
        "maxLength": 253,
        "pattern": NAME.pattern,
    },
    "spec.kubeadmJoinConfig.tokenSecretRef.name": {"x-kubernetes-validations": None, "pattern": NAME.pattern},
    "status.conditions": _keyed("type"),
    "status.provisionedInstances": _keyed("name"),
}

# A template never buys, so its fields are free; the SpotInstanceVM that is made of it has its own rules.
TEMPLATE_ADDITIONS = {
    path: each for path, each in VM_ADDITIONS.items() if path not in ("", "status.provisionedInstances")
}
