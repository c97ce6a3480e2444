"""What all coroutines of a job share."""
