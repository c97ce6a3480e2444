"""The vocabulary of Outlast: CRD types, workflow inputs and messages. Frozen pydantic models, no I/O."""
