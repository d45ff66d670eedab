"""Records of whole passes to a calibration of level `samples`."""
