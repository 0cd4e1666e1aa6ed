"""What a reader sees: figures by subject, and the page."""
