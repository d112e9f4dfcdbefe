"""Waits until items are settled: the rules, the loop, and what is stored of each wait. It writes no row of an item."""
