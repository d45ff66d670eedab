"""Quality of configurations that were never measured, predicted from a few hundred that were. No torch."""
