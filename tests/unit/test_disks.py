"""Which boot disk a machine gets, checked against what the emulated cloud refuses."""

import pytest

from activities.compute.disks import default_disk_type, disk_problem
from sandbox.gce.catalog import DISK_TYPES, MACHINE_TYPES


@pytest.mark.parametrize(
    ("machine_type", "disk_type"),
    [
        ("n1-standard-4", "pd-standard"),
        ("custom-4-16384", "pd-standard"),
        ("a2-highgpu-1g", "pd-standard"),
        ("g2-standard-8", "pd-balanced"),
        ("a3-highgpu-8g", "pd-balanced"),
        ("c3-standard-8", "pd-balanced"),
        ("a3-ultragpu-8g", "hyperdisk-balanced"),
        ("a4-highgpu-8g", "hyperdisk-balanced"),
        ("n4-standard-8", "hyperdisk-balanced"),
        ("z9-of-tomorrow", "hyperdisk-balanced"),
    ],
)
def test_the_default_goes_by_the_family(machine_type: str, disk_type: str) -> None:
    assert default_disk_type(machine_type) == disk_type
    assert disk_problem(machine_type, disk_type) is None


def test_what_the_cloud_refuses_is_refused_before() -> None:
    for machine in MACHINE_TYPES.values():
        assert default_disk_type(machine.name) not in machine.no_disk_types
        for disk_type in DISK_TYPES:
            refused = disk_problem(machine.name, disk_type) is not None
            assert refused == (disk_type in machine.no_disk_types), (machine.name, disk_type)


def test_the_remedy_names_what_to_write() -> None:
    assert "does not boot from pd-standard: write pd-balanced" in (disk_problem("g2-standard-8", "pd-standard") or "")
    assert disk_problem("g2-standard-8", None) is None
    assert disk_problem("a3-highgpu-8g", "pd-ssd") is None
