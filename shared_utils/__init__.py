"""What the five models have in common: videos in, scores out, and the running of a job."""
