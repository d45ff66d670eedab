"""Model families: one file each, one line of the registry; config.json to the model and its forward pass."""
