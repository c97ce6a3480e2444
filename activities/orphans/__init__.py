"""Orphans: machines, objects of the cluster and images that no open workflow looks after. Found and judged here.

Nothing that is in use may be taken for an orphan. So each finder asks two questions: is there an open workflow, and
does the SpotInstanceJob exist in the cluster? What is younger than a grace period is left alone, because its owner may
not have recorded it yet. A failed read never counts as a no.
"""
