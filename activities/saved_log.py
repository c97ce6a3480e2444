"""The log that outlives its pods: one text a replica, joined over incarnations, bounded. Pure."""

import re

LIMIT = 256 * 1024
"""Bytes that are kept, headers included: a ConfigMap holds 1 MiB."""


def join(kept: str, job_id: str, replica: int, incarnation: int, log: str) -> str:
    """``kept`` with this incarnation's section added, or put in place of what it was; the oldest bytes go first."""
    sections = _sections(kept, job_id, replica) | {incarnation: log}
    joined: list[str] = []
    room = LIMIT
    for number, body in sorted(sections.items(), reverse=True):
        header = f"{_header(job_id, replica, str(number))}\n"
        room -= len(header)
        if room <= 0:
            break
        end = _last_bytes(body if body.endswith("\n") or not body else f"{body}\n", room)
        room -= len(end.encode())
        joined.append(header + end)
    return "".join(reversed(joined))


def _sections(text: str, job_id: str, replica: int) -> dict[int, str]:
    """Incarnation → its section."""
    parts = re.split(rf"^{_header(job_id, replica, '([0-9]+)')}\n", text, flags=re.MULTILINE)
    return {int(number): body for number, body in zip(parts[1::2], parts[2::2], strict=True)}


def _header(job_id: str, replica: int, incarnation: str) -> str:
    return f"=== {job_id} replica {replica} incarnation {incarnation} ==="


def _last_bytes(text: str, room: int) -> str:
    return text.encode()[-room:].decode(errors="ignore") if room > 0 else ""
