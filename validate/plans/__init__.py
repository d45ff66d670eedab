"""What to measure: samples, given configurations, strata."""
