"""I3D: Inception-v1 inflated to three dimensions (arXiv 1705.07750)."""
