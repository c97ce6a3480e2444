"""Watches of a cluster whose API server may be unreachable for a while."""

from __future__ import annotations

from sandbox.demo.trainings import Training, Trainings


class PatientTrainings(Trainings):
    """Follows a log again if it breaks off before its training is done."""

    def wants_more(self, training: Training) -> bool:
        return not training.done
