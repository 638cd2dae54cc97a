"""scvi-tools beside scelbo: the same weights in both, and the numbers that either gives."""
