"""Fields of a ``jobTemplate`` that have no effect in Outlast, and what to use instead.

People read it twice in the same words: at ``kubectl apply`` from a ValidatingAdmissionPolicy that warns, which
``python -m api.crd`` generates from this table, and in the message of the condition ``Accepted``.
``activities/replicas/job_builder.py`` removes or sets these fields; a test checks it against this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api import names
from api.queues import QUEUE_LABEL as QUEUE

Json = dict[str, Any]

POD = "spec.template.spec"
_TEMPLATE = "variables.template"
_LOST_NODES = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


@dataclass(frozen=True)
class Unkept:
    """A field below ``jobTemplate`` that has no effect.

    Args:
        path: the field's path, for example ``spec.suspend``.
        advice: what to use instead.
        harmless: values that ask for nothing but what Outlast does anyway.
        effect: what the field does.
        only: the values that have no effect, if others have one.
        queued: True if Kueue's webhook sets the field, so that nothing is said about a job that Kueue queues.
    """

    path: str
    advice: str
    harmless: tuple[str | int | bool, ...] = ()
    only: tuple[int, ...] = ()
    effect: str = "has no effect"
    queued: bool = False

    @property
    def message(self) -> str:
        """Write the sentence that people read."""
        return f"jobTemplate.{self.path} {self.effect}: {self.advice}"

    def is_in(self, template: Json, labels: Mapping[str, str]) -> bool:
        """True if a job with these labels has the field in its template, with a value that is not harmless."""
        if self.queued and (QUEUE in labels or QUEUE in (_at(template, "metadata.labels") or {})):
            return False
        value = _at(template, self.path)
        if self.only:
            return value in self.only and not isinstance(value, bool)
        return not any(value is None if each is None else value == each for each in (None, *self.harmless))

    @property
    def expression(self) -> str:
        """Write the same in CEL: true if there is nothing to warn about."""
        value = f"{_TEMPLATE}{_steps(self.path)}.orValue(null)"
        if self.only:
            return f"!({value} in [{', '.join(f'dyn({_literal(each)})' for each in self.only)}])"
        harmless = ", ".join(f"dyn({_literal(each)})" for each in (None, *self.harmless))
        nothing = f"{value} in [{harmless}]"
        if not self.queued:
            return nothing
        label = f"metadata.?labels[?'{QUEUE}'].hasValue()"
        return f"{nothing} || object.{label} || {_TEMPLATE}.?{label}"


@dataclass(frozen=True)
class Shortened:
    """Tolerations of a lost node that expire."""

    message: str = (
        f"jobTemplate.{POD}.tolerations: tolerationSeconds of not-ready and unreachable nodes has no effect: Outlast "
        "itself decides when a node is lost, and continues elsewhere"
    )

    def is_in(self, template: Json, labels: Mapping[str, str]) -> bool:
        """True if the template limits how long its pod stays on a lost node."""
        found = _at(template, f"{POD}.tolerations")
        tolerations = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        return any("tolerationSeconds" in each and each.get("key") in (None, *_LOST_NODES) for each in tolerations)

    @property
    def expression(self) -> str:
        """Write the same in CEL: true if there is nothing to warn about."""
        steps = _steps(f"{POD}.tolerations")
        keys = ", ".join(f"dyn({_literal(each)})" for each in (None, *_LOST_NODES))
        return (
            f"!{_TEMPLATE}{steps}.orValue([]).exists(each, "
            f"has(each.tolerationSeconds) && each.?key.orValue(null) in [{keys}])"
        )


def _at(template: Json, path: str) -> Any:
    """Read the value at a path; None if there is none."""
    found: Any = template
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _steps(path: str) -> str:
    """Write in CEL the way to a field that may be absent."""
    return "".join(f".?{step}" for step in path.split("."))


def _literal(value: str | int | bool | None) -> str:
    """Write a value in CEL."""
    if isinstance(value, str):
        return f"'{value}'"
    return "null" if value is None else str(value).lower()


UNKEPT: tuple[Unkept | Shortened, ...] = (
    Unkept(
        "spec.ttlSecondsAfterFinished",
        "set spec.ttlSecondsAfterFinished of the SpotInstanceJob, which deletes the job with all that belongs to it",
    ),
    Unkept(
        "spec.suspend",
        "to pause the training set spec.suspend of the SpotInstanceJob, which checkpoints it and releases its VMs",
        harmless=(False,),
        effect="holds each Job until somebody else resumes it, and nothing is bought before",
        queued=True,
    ),
    Unkept(
        "spec.managedBy",
        "the cluster's own Job controller makes a replica's pod; leave it out",
        harmless=("kubernetes.io/job-controller",),
    ),
    Unkept(
        "spec.parallelism",
        "to pause the training set spec.suspend of the SpotInstanceJob",
        only=(0,),
    ),
    Unkept(
        "spec.completions",
        "set spec.completionPolicy of the SpotInstanceJob to say whether one success completes it, or all of them",
        only=(0,),
    ),
    Unkept(
        "spec.backoffLimitPerIndex",
        "set spec.maxRestarts of the SpotInstanceJob to say how often each copy may fail",
    ),
    Unkept(
        "spec.maxFailedIndexes",
        "set spec.completionPolicy of the SpotInstanceJob: Any continues while a copy is left, All fails at the first",
    ),
    Unkept(
        "spec.podReplacementPolicy",
        "Outlast starts a replica's next pod once the last one has ended or its machine is gone; leave it out",
        harmless=("Failed",),
    ),
    Unkept("spec.selector", "each Job that Outlast makes gets a selector of its own; leave it out"),
    Unkept(
        "spec.manualSelector",
        "each Job that Outlast makes gets a selector of its own; leave it out",
        harmless=(False,),
    ),
    Unkept(
        f"{POD}.restartPolicy",
        "a replica's pod always has Never. Outlast itself restarts a training that failed, from its furthest "
        "checkpoint, as often as spec.maxRestarts says",
        harmless=("Never",),
    ),
    Unkept(
        f"{POD}.nodeName",
        "Outlast chooses the node; use nodeSelector or nodeAffinity to narrow its choice",
        harmless=("",),
    ),
    Shortened(),
    Unkept("metadata.name", "a replica's Job is named after the SpotInstanceJob; leave it out"),
    Unkept("metadata.generateName", "a replica's Job is named after the SpotInstanceJob; leave it out"),
    Unkept("metadata.namespace", "a replica's Job is in the namespace of the SpotInstanceJob; leave it out"),
    Unkept("metadata.finalizers", "put finalizers on the SpotInstanceJob"),
    Unkept("metadata.ownerReferences", "the SpotInstanceJob owns its Jobs; put owners on the SpotInstanceJob"),
)


def unkept(template: Json, labels: Mapping[str, str]) -> list[str]:
    """Say which fields of a template have no effect; ``labels`` are the SpotInstanceJob's."""
    return [each.message for each in UNKEPT if each.is_in(template, labels)]


POLICY = "outlast-unkept-fields"


def policy() -> list[Json]:
    """Make the policy that warns at apply, and its binding."""
    version = {"apiVersion": "admissionregistration.k8s.io/v1"}
    name = {"metadata": {"name": POLICY}}
    rule = {
        "apiGroups": [names.GROUP],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [names.JOB_PLURAL],
    }
    told = {
        "name": "its-spec-is-written",
        "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec",
    }
    spec = {
        "failurePolicy": "Ignore",
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [told],
        "variables": [{"name": "template", "expression": "dyn(object).spec.jobTemplate"}],
        "validations": [{"expression": each.expression, "message": each.message} for each in UNKEPT],
    }
    binding = {"policyName": POLICY, "validationActions": ["Warn"]}
    return [
        {**version, "kind": "ValidatingAdmissionPolicy", **name, "spec": spec},
        {**version, "kind": "ValidatingAdmissionPolicyBinding", **name, "spec": binding},
    ]
