"""``kubectl explain`` leaves nobody without a sentence: each field of the CRDs has a description."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.crd import KINDS, Kind, schema

OF_KUBERNETES = {"apiVersion", "kind", "metadata"}


def fields(found: dict[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """List each field below a schema with its description."""
    for name, inner in (found.get("properties") or {}).items():
        yield f"{at}.{name}", inner.get("description", "")
        yield from fields(inner, f"{at}.{name}")
    if isinstance(found.get("items"), dict):
        yield from fields(found["items"], f"{at}[]")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_field_has_a_description(kind: Kind) -> None:
    described = dict(fields(schema(kind)))
    assert [at for at, text in described.items() if not text and at.strip(".") not in OF_KUBERNETES] == []
