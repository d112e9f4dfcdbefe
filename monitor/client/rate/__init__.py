"""rate."""
