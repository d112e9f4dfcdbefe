"""Incidents: evidence, rules, decisions, members, silences and their storage. It sends no messages."""
