"""The benchmarks, each a module with its `Settings` and `measure(settings) -> figures`."""
