"""What published configurations are priced as, held against transformers."""
