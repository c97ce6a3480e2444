"""Pure decisions about checkpoints and restore points."""
