"""The command line: ``outlast …``, or ``kubectl outlast …``.

What a job's owner does needs rights on Kubernetes alone. Operators' commands ask Temporal, too.
"""
