"""What is asked of a source: collections, area, time and properties."""
