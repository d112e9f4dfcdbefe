"""What answers mean: classification, an item's transitions, a run's tally, evidence and rollup. Pure."""
