"""Fields of a spec that have no effect beside others, and what to do: people are warned of them at ``kubectl apply``.

``python -m api.crd`` makes ValidatingAdmissionPolicies of this table. Nothing is refused: such a spec works.
"""

from dataclasses import dataclass
from typing import Any

from api import names

Json = dict[str, Any]


@dataclass(frozen=True)
class Ineffective:
    """A field without effect.

    Args:
        path: the field below ``spec``.
        when: in CEL over ``spec``, true if the field is set and has no effect.
        why: why that is so, and what to write instead.
    """

    path: str
    when: str
    why: str

    @property
    def message(self) -> str:
        """Write the sentence that people read."""
        return f"spec.{self.path} has no effect: {self.why}"


_MODE = "variables.spec.checkpointConfig.?mode.orValue('Image')"
_STORAGE = "variables.spec.checkpointConfig.?checkpointStorage"
_GANG = "variables.spec.?gang"
_OS_LOGIN = "variables.spec.gcp.?sshAccess.orValue('Metadata') == 'OSLogin'"
_GCP = "variables.spec.gcp"

OF_JOBS = (
    Ineffective(
        "checkpointConfig.verifyRestore",
        f"variables.spec.checkpointConfig.?verifyRestore.orValue(false) == true && {_MODE} == 'Application'",
        "it starts a replica from the first image, and in mode Application there are none; leave it out",
    ),
    Ineffective(
        "checkpointConfig.checkpointStorage.region",
        f"{_STORAGE}.?region.hasValue() && {_STORAGE}.?type.orValue('') != 's3'",
        "only s3 has regions; leave it out",
    ),
    Ineffective(
        "gang.step",
        f"{_GANG}.?step.orValue(1) != 1 && {_GANG}.?minSize.orValue(0) == {_GANG}.?maxSize.orValue(0)",
        "it says which sizes are between minSize and maxSize, and these are equal; leave it out",
    ),
)
OF_VMS = (
    Ineffective(
        "sshUser",
        f"{_OS_LOGIN} && variables.spec.?sshUser.orValue('outlast') != 'outlast'",
        "with gcp.sshAccess: OSLogin the cloud says who logs in; leave it out",
    ),
    Ineffective(
        "gcp.preemptionNoticeDuration",
        f"{_GCP}.?preemptionNoticeDuration.hasValue() && variables.spec.?preemptible.orValue(true) == false",
        "with preemptible: false no spot VM is bought, and no other is preempted; leave it out",
    ),
)

POLICIES = {
    "outlast-ineffective-job-fields": ((names.JOB_PLURAL,), OF_JOBS),
    "outlast-ineffective-vm-fields": ((names.VM_PLURAL, names.TEMPLATE_PLURAL), OF_VMS),
}


def policies() -> list[Json]:
    """Make the policies that warn at apply, each with its binding."""
    return [made for name, (plurals, fields) in POLICIES.items() for made in _policy(name, plurals, fields)]


def _policy(name: str, plurals: tuple[str, ...], fields: tuple[Ineffective, ...]) -> list[Json]:
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {
        "apiGroups": [names.GROUP],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(plurals),
    }
    written = "request.operation == 'CREATE' || object.spec != oldObject.spec"
    spec = {
        "failurePolicy": "Ignore",
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "its-spec-is-written", "expression": written}],
        "variables": [{"name": "spec", "expression": "dyn(object).spec"}],
        "validations": [{"expression": f"!({each.when})", "message": each.message} for each in fields],
    }
    return [
        {**head, "kind": "ValidatingAdmissionPolicy", "spec": spec},
        {
            **head,
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": name, "validationActions": ["Warn"]},
        },
    ]
