"""Non-local networks: I3D-ResNet50 whose blocks relate all positions of a clip (arXiv 1711.07971)."""
