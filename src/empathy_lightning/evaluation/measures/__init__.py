"""Measures of replies: one file each, whose class is the file's name in capitals (``exists_match``: ExistsMatch)."""
