"""Training of the built-in network: `python -m chromamol.nucleus.training --data FOLDER --output WEIGHTS.npz`."""
