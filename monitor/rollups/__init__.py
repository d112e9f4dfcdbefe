"""Rollups: what is kept of runs and of times to indexed per hour and day, when the single rows are long gone.

Rows are added in the transactions of a run; nothing is recomputed, so the cost does not grow with the history.
"""
