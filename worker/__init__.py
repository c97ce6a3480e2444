"""The worker: connects settings, clients, activities and workflows, and polls Temporal for work."""
