"""What preflight asks for is listed in docs/security.md; tests/activities/test_permissions.py holds that list."""

import re
from pathlib import Path

from activities.compute import preflight

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
LIFE = {"compute.instances.create", "compute.instances.get", "compute.instances.list", "compute.instances.delete"}


def test_a_job_is_not_admitted_without_what_its_life_needs() -> None:
    """What can be lacking without harm it does not ask for."""
    listed = set(re.findall(r"^\| `(compute\.[a-zA-Z.]+)` \|", SECURITY.read_text(), re.MULTILINE))
    assert LIFE | {"compute.instances.getGuestAttributes"} <= set(preflight._PERMISSIONS) <= listed
