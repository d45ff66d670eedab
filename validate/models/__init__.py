"""Real transformers models: built, read, streamed, run on blocks of text."""
