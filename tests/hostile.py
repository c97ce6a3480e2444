"""Strings that try to lead somewhere else: to another object, another request, another command."""

HOSTILE = [
    "../../victim/secrets/db",
    "a/../b",
    "..",
    "x?y=z",
    "x#y",
    "%2e%2e%2fx",
    "x\ny",
    "x\x00y",
    "x\x1b[2Jy",
    "$(id)",
    ";reboot",
    "--flag=x y",
    "\u202e\u2215é",
    "X" * 2000,
]
