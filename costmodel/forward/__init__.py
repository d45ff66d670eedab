"""One forward pass as a list of operations, with what each costs before any hardware is known."""
