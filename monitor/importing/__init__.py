"""Item ids from files that people have: CSV, bare ids and JSON lines, read line by line in bounded memory.

It opens no file and stores nothing; what it can't use it gives back with the line's number and the reason.
"""

from monitor.importing.lines import Lines
from monitor.importing.reading import Found, read_items
from monitor.importing.spec import FORMATS, BadLine, FileSpec

__all__ = ["FORMATS", "BadLine", "FileSpec", "Found", "Lines", "read_items"]
