"""Low-rank factors of a pretrained sentence encoder beside what others do at the same size."""
