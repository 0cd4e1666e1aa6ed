"""What the lessons use beside the library itself: toys, widgets, tables for reading."""
