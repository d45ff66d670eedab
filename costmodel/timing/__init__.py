"""From operations to seconds: the datasheet, generations, calibrations, and what a stack adds."""
