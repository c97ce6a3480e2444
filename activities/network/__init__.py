"""The one gate through which the worker connects to what a spec names."""
