"""Low-rank factors of a pretrained language model beside what others do at the same size."""
