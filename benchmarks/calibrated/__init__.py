"""What `calibration.py` is made of: how far stated uncertainties may be trusted."""
