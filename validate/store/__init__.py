"""What is recorded, crash-safe: locks, appended lines, files and folders that are whole or absent."""
