"""The life of one replica: a step for each phase, which can be entered again at any time."""
