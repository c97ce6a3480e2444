"""Room for several pods in the namespace's ResourceQuotas, since a dry run asks for one pod only. Pure.

Of what a quota counts, only pods, their requests and their limits are checked. A quota with scopes counts some pods and
not others, so its room is known only when the pods are made.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from activities.placement.demand import demand_of, format_quantity, parse_quantity

Json = dict[str, Any]

_PODS = ("pods", "count/pods")
_PLAIN = ("cpu", "memory", "ephemeral-storage")  # a quota may name these without "requests."


def lacks_room(quotas: list[Json], pod: Json, count: int) -> str:
    """Name the first quota without room for ``count`` pods like this one, and what it lacks; empty if there is none.

    ``pod`` is the pod as the API server would store it, with the defaults of the namespace's LimitRanges.
    """
    for quota in quotas:
        spec = quota.get("spec") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        status = quota.get("status") or {}
        for resource, amount in _usage(pod, status.get("hard") or {}):
            hard, used = status["hard"][resource], (status.get("used") or {}).get(resource, "0")
            if amount and parse_quantity(used) + amount * count > parse_quantity(hard):
                name = quota["metadata"]["name"]
                return f"{name}, requested: {resource}={format_quantity(amount * count)}, used: {used}, limited: {hard}"
    return ""


def _usage(pod: Json, hard: Json) -> Iterator[tuple[str, Decimal]]:
    """List what a pod takes of each resource that a quota bounds."""
    requests, limits = demand_of(pod).amounts, _limits(pod)
    for resource in hard:
        kind, dot, name = resource.partition(".")
        if resource in _PODS:
            yield resource, Decimal(1)
        elif resource in _PLAIN:
            yield resource, requests.get(resource, Decimal(0))
        elif dot and kind in ("requests", "limits"):
            yield resource, (requests if kind == "requests" else limits).get(name, Decimal(0))


def _limits(pod: Json) -> dict[str, Decimal]:
    """Sum the limits of a pod's containers. Init containers are left out, because theirs are rarely higher."""
    total: dict[str, Decimal] = {}
    for container in (pod.get("spec") or {}).get("containers") or []:
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            total[name] = total.get(name, Decimal(0)) + parse_quantity(amount)
    return total
