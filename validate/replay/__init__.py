"""Other people's measurements against the model."""
