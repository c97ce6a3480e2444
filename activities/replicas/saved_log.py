"""The log that outlives its pods in a ConfigMap: one text for each replica, joined over incarnations, limited. Pure."""

import re

LIMIT = 256 * 1024
"""Bytes that are kept while the job exists, headers included: a ConfigMap has room for 1 MiB."""
AFTER_END = 32 * 1024
"""Bytes kept after the job has ended: ConfigMaps are in etcd, which has room for 2 GiB in all by default."""

_SHORTENED = "--- shortened at the job's end"


def join(kept: str, job_id: str, replica: int, incarnation: int, log: str) -> str:
    """Add this incarnation's section to ``kept``, or replace its earlier one; the oldest bytes are dropped first."""
    sections = _sections(kept, job_id, replica) | {incarnation: log}
    joined: list[str] = []
    room = LIMIT
    for number, body in sorted(sections.items(), reverse=True):
        line = f"{header(job_id, replica, str(number))}\n"
        room -= len(line)
        if room <= 0:
            break
        end = last_bytes(body if body.endswith("\n") or not body else f"{body}\n", room)
        room -= len(end.encode())
        joined.append(line + end)
    return "".join(reversed(joined))


def shorten(text: str, told: str) -> str:
    """Cut ``text`` to its end, below a line that says so; ``told`` says where the whole log is."""
    if len(text.encode()) <= AFTER_END:
        return text
    note = f"{_SHORTENED} to its last {AFTER_END // 1024} KiB{told} ---\n"
    return note + last_bytes(text, AFTER_END - len(note.encode()))


def is_shortened(text: str) -> bool:
    """True if this is what ``shorten`` left of a longer log."""
    return text.startswith(_SHORTENED)


def _sections(text: str, job_id: str, replica: int) -> dict[int, str]:
    """Split the text into its sections, by incarnation."""
    parts = re.split(rf"^{header(job_id, replica, '([0-9]+)')}\n", text, flags=re.MULTILINE)
    return {int(number): body for number, body in zip(parts[1::2], parts[2::2], strict=True)}


def header(job_id: str, replica: int, incarnation: str) -> str:
    """Write the line above an incarnation's log."""
    return f"=== {job_id} replica {replica} incarnation {incarnation} ==="


def last_bytes(text: str, room: int) -> str:
    """Cut the end of ``text`` that fits into ``room`` bytes; no letter is cut in two."""
    return text.encode()[-room:].decode(errors="ignore") if room > 0 else ""
