"""The admission policies and the code agree on what is ours: its names, labels, groups and taints."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api import names

BASE = Path(__file__).parents[2] / "deploy" / "base"
FILES = sorted(BASE.glob("*-policy.yaml"))
JOB = "0a1b2c3d"


def strings(node: object) -> Iterator[str]:
    """Find all strings of a document."""
    if isinstance(node, str):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from strings(inner)


EXPRESSIONS = [
    text for file in FILES for document in yaml.safe_load_all(file.read_text()) for text in strings(document or {})
]
NODES = sorted({found for text in EXPRESSIONS for found in re.findall(r"'\^(?:system:node:)?(outlast-[^']*)\$'", text)})
OURS = [names.vm_name(names.vm_key(JOB, replica, place), number) for replica, place, number in
        [(0, 1, 1), (15, 1, 12), (9999, 999_999_999, 999_999_999)]]  # fmt: skip
NOT_OURS = [
    "outlast-0a1b2c3d-r0-v1-t1.evil", "outlast-0a1b2c3d-r0-v1-t", "outlast-0a1b2c3d-r0-v1", "outlast-0A1B2C3D-r0-v1-t1",
    "outlast-0a1b2c3-r0-v1-t1", "x-outlast-0a1b2c3d-r0-v1-t1", "outlast-0a1b2c3d-r00000-v1-t1",
    "outlast-0a1b2c3d-r0-v0123456789-t1", "outlast-0a1b2c3d-r0-v1-t0123456789",
]  # fmt: skip


def test_all_policies_write_the_name_of_a_bought_node_in_the_same_way() -> None:
    assert len(NODES) == 1, NODES


@pytest.mark.parametrize("name", [*OURS, *NOT_OURS])
def test_a_policy_takes_a_node_for_bought_if_the_code_does(name: str) -> None:
    assert bool(re.fullmatch(NODES[0], name)) == (names.vm_key_of(name) is not None) == (name in OURS)


@pytest.mark.parametrize(
    "word",
    [names.LABEL_JOB, names.LABEL_MANAGED_BY, names.FINALIZER, names.TAINT_PREEMPTED, names.BOOTSTRAP_GROUP],
)
def test_what_the_code_writes_is_what_a_policy_asks_for(word: str) -> None:
    assert any(f"'{word}'" in text or f"{word}:" in text for text in EXPRESSIONS)


@pytest.mark.parametrize("key", [names.job_finalizer(JOB), names.LABEL_PROTECTED])
def test_a_policy_lets_a_job_hold_what_it_needs(key: str) -> None:
    holds = {found for text in EXPRESSIONS for found in re.findall(r"'(\^training\[\.\][^']*held[^']*\$)'", text)}
    assert holds
    assert all(re.fullmatch(pattern, key) for pattern in holds)


def test_a_claim_has_the_name_that_a_policy_asks_for() -> None:
    [prefix] = {found for text in EXPRESSIONS for found in re.findall(r"name\.startsWith\('(cdi-)'\)", text)}
    assert names.claim_name("node", "0").startswith(prefix)
