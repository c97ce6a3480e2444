"""Eyes on a cluster whose API server may be away for a while."""

from __future__ import annotations

from sandbox.demo.trainings import Training, Trainings


class PatientTrainings(Trainings):
    """Follows each log again that breaks off before its training was done."""

    def wants_more(self, training: Training) -> bool:
        return not training.done
