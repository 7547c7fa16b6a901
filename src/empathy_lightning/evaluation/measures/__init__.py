"""Measures of replies: one file each, whose class is the file's name in capitals (``bert_score``: BertScore)."""
