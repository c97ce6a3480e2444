"""``python -m tests.monitoring.panels PROMETHEUS``: ask a Prometheus for each panel and rule, and list the empty ones.

To be run by a person beside a sandbox in which something has happened: it shows a metric or a label that is spelled in
another way than Outlast serves it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

MONITORING = Path(__file__).parents[2] / "deploy" / "components" / "monitoring"
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$team": ".*"}
"""What Grafana writes into an expression."""


def panels() -> Iterator[tuple[str, str]]:
    """List the expressions of all dashboards, each with its place."""
    for file in sorted((MONITORING / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{file.stem}: {panel['title']}", expanded(target["expr"])


def rules() -> Iterator[tuple[str, str]]:
    """List what the rules compare, without the comparison: what is well has no value to show otherwise."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        yield rule["alert"], compared(rule["expr"])


def expanded(expression: str) -> str:
    """Write values for Grafana's variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def compared(expression: str) -> str:
    """Leave out the last comparison, and what a rule says of a series that is absent.

    >>> compared("max(x) > 3 or absent(x)")
    'max(x)'
    """
    first = expression.partition(" or absent(")[0].strip()
    for sign in (" > ", " == "):
        left, found, right = first.rpartition(sign)
        if found and right.strip().isdecimal():
            return left
    return first


def asked(prometheus: str, expression: str) -> list[Any]:
    """Ask for the present value of an expression."""
    with urlopen(f"{prometheus}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
        return found


def main() -> int:
    """Print each expression with the number of its series; return 1 if one has none."""
    empty = 0
    for where, expression in (*panels(), *rules()):
        found = len(asked(sys.argv[1], expression))
        empty += found == 0
        print(f"{found:4} {where}" + ("" if found else f"\n       {expression}"))
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
