"""Rules, routing and rendering: evidence in, decisions and words out. Pure."""
