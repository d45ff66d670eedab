"""What was measured with the tool, and the code that only studies need: not part of the wheel."""
