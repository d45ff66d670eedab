"""Measured times to a calibration: fits, held-out errors, the file."""
