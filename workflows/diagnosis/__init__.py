"""The workflow Diagnosis, which lets the worker look at its own surroundings."""
