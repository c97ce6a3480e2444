"""Remedies for a refused pod: the refusal's own words, and the field or object to correct. Pure."""

import re

_POD = "jobTemplate.spec.template.spec"
# The first match counts. {0} is what the expression captured, {ns} the job's namespace.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"violates PodSecurity",
        f"Set what it names in {_POD}, or let namespace {{ns}} have a lower level in its label "
        "pod-security.kubernetes.io/enforce",
    ),
    (
        r"exceeded quota: ([^,]+),",
        "Raise ResourceQuota {ns}/{0}, or delete what uses it up",
    ),
    (
        r"failed quota: ([^:]+): must specify",
        f"Set them in resources of each container of {_POD}, as ResourceQuota {{ns}}/{{0}} demands, or let a "
        "LimitRange of the namespace set defaults",
    ),
    (
        r"no PriorityClass with name (\S+) was found",
        f"Create PriorityClass {{0}}, or correct {_POD}.priorityClassName",
    ),
    (
        r"error looking up service account (\S+):",
        f"Create ServiceAccount {{0}}, or correct {_POD}.serviceAccountName",
    ),
    (
        r'RuntimeClass "([^"]+)" not found',
        f"Create RuntimeClass {{0}}, or correct {_POD}.runtimeClassName",
    ),
    (
        r"(?:maximum|minimum) (\S+) usage per|limit to request ratio",
        f"Correct resources of the containers of {_POD}, or the LimitRange of namespace {{ns}}",
    ),
    (
        r'failed calling webhook "([^"]+)"',
        "Nobody can make pods here until webhook {0} answers again: inform whoever runs it",
    ),
    (
        r'admission webhook "([^"]+)" denied',
        "Correct jobTemplate.spec.template as it says, or ask whoever runs webhook {0}",
    ),
    (
        r"ValidatingAdmissionPolicy '([^']+)' with binding",
        "Correct jobTemplate.spec.template as it says, or ask whoever wrote ValidatingAdmissionPolicy {0}",
    ),
    (
        r"because it is being terminated",
        "Create the job in a namespace that stays",
    ),
)
_USUAL = "Correct jobTemplate.spec.template, or what refuses it"


def remedy(words: str, namespace: str) -> str:
    """Name what helps against a refusal in these words, in one sentence without its full stop."""
    for pattern, advice in _REMEDIES:
        if found := re.search(pattern, words):
            return advice.format(*(group or "" for group in found.groups()), ns=namespace)
    return _USUAL


def own_words(message: str, resource: str) -> str:
    """Strip from the server's message the name of an object that was never made.

    >>> own_words('pods "llm-asked" is forbidden: exceeded quota: q', "pods")
    'exceeded quota: q'
    """
    return re.sub(rf'^(?:{re.escape(resource)} "[^"]*" is forbidden: |Internal error occurred: )', "", message)
