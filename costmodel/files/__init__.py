"""Files: read strictly, checked with their place, written whole or not at all."""
