"""The state of a job: models that continue-as-new carries on, with their transitions."""
