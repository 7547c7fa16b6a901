"""What can be measured of replies: one measure a file, found because it lies here."""
