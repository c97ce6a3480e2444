"""Pure decisions that several workflows share: from what is known they make what to do, and why."""
