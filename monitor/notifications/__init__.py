"""Messages about incidents: their text, who gets them, the outbox they wait in, and their delivery by channels.

When an incident opens, resolves or reminds is decided in `incidents`, which writes into the outbox.
"""
