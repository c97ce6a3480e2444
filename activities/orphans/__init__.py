"""What no open workflow looks after any more: machines, objects of the cluster, images. Found here, and judged alone.

Nothing that lives may be taken for an orphan, so each of these looks asks twice: is there an open workflow, and does
the SpotInstanceJob live in the cluster? What is younger than a grace period is left alone: its owner may be about to
write down that it exists. What cannot be read is never taken for a no.
"""
