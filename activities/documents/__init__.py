"""What people write: the SpotInstanceJob, the objects that it names, and our finalizers on these."""
