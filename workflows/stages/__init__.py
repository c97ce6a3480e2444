"""The stages of a VM's life, each a step over the state that can be entered again."""
