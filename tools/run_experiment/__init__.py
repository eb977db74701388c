"""One experiment, on any machine: ``python -m tools.run_experiment``."""
