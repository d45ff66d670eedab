"""Calibrations: measured corrections to the roofline of one device; found and applied here, fitted by `validate`."""
