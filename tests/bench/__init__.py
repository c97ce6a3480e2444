"""The benchmarks: each writes its table of docs/benchmarks.md."""
