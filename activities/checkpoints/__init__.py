"""CheckpointBackups, which an external operator carries out."""
