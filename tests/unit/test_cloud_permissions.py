"""docs/security.md lists what the preflight asks for; tests/activities/test_permissions.py checks that list."""

import re
from pathlib import Path

from activities.compute import preflight

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
LIFE = {"compute.instances.create", "compute.instances.get", "compute.instances.list", "compute.instances.delete"}


def test_a_job_is_not_admitted_without_what_its_life_needs() -> None:
    """It does not ask for what may be missing without harm."""
    listed = set(re.findall(r"^\| `(compute\.[a-zA-Z.]+)` \|", SECURITY.read_text(), re.MULTILINE))
    assert LIFE | {"compute.instances.getGuestAttributes"} <= set(preflight._PERMISSIONS) <= listed
