"""Versions of parts, as far as they are compared: major and minor."""

import re


def version_in(text: str) -> tuple[int, int] | None:
    """Read a version; None if the text does not begin with one.

    >>> version_in("v1.36.2-gke.1"), version_in("2.0.1"), version_in("unknown")
    ((1, 36), (2, 0), None)
    """
    found = re.match(r"v?([0-9]+)[.]([0-9]+)", text)
    return (int(found[1]), int(found[2])) if found else None
