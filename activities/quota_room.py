"""Is there room in the namespace's ResourceQuotas for several pods? A dry run asks for one alone. Pure.

Of what a quota counts only pods, their requests and their limits are looked at. A quota with scopes counts some pods
and not others; what it leaves is known when the pods are made.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from activities.fitting import demand_of, format_quantity, parse_quantity

Json = dict[str, Any]

_PODS = ("pods", "count/pods")
_PLAIN = ("cpu", "memory", "ephemeral-storage")  # of these a quota may leave out "requests."


def lacks_room(quotas: list[Json], pod: Json, count: int) -> str:
    """Name the first quota without room for ``count`` pods like this one, and what it lacks; empty if there is none.

    ``pod`` is as the API server would store it, with the defaults of the namespace's LimitRanges.
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
    """Sum the limits of a pod's containers. Init containers are left out: theirs are rarely more."""
    total: dict[str, Decimal] = {}
    for container in (pod.get("spec") or {}).get("containers") or []:
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            total[name] = total.get(name, Decimal(0)) + parse_quantity(amount)
    return total
