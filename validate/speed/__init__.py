"""Really factored models timed beside the dense one: time, memory, energy, errors of predictions."""
