"""What people ask of a job, by update, signal or annotation, and how it is answered."""
