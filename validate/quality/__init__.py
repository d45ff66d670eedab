"""Quality of factored models, measured: text and tasks against the dense model, as records that statistics pair."""
