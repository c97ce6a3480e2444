"""Decisions as pure functions: what is known in, what to do and why out."""
