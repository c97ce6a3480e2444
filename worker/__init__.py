"""The worker: wires settings, clients, activities and workflows together and polls."""
