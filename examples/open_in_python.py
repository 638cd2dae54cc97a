"""Opens in Python the model that examples/demo.R trained in R, and asks it for the same latent space."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import scelbo
from scelbo.data.readers import pbmc68k

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
model = scelbo.load(folder / "model", pbmc68k())
ours = model.get_latent_representation()
r = pd.read_csv(folder / "latent.csv", index_col=0).loc[model.adata.obs_names].to_numpy()

difference = np.abs(ours - r).max()
print(f"{type(model).__name__} of {model.adata.n_vars} genes; latent {ours.shape}; largest difference to R's: {difference:.1e}")
sys.exit(not difference < 1e-4)
