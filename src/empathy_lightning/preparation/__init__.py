"""What has to be made before training: speech, responses, units."""
