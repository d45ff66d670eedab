"""Micro-benchmarks of a device: plan, run, records."""
