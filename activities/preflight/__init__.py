"""The checks before money is spent; each becomes a condition."""
