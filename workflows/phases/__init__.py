"""The phases of a replica's life, each a step over the state that can be entered again."""
