"""The one kind of error that a person gets to read as a single line."""


class SandboxError(RuntimeError):
    """Something that the sandbox needs is missing or failed; the message names it and the remedy."""
