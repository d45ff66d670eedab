"""What the reports share: styles, markup, axes."""
