"""What stacks do to whole passes, fitted to published measurements and judged on sources left out."""
