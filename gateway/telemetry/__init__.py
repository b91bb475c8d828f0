"""What operators see: metrics with closed label sets and events with fixed fields, no content."""
