"""The one error that a person reads as a single line."""


class SandboxError(RuntimeError):
    """Something that the sandbox needs is missing or failed; the message names it and the remedy."""
