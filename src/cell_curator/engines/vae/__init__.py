"""Variational autoencoders for patches of cells: four networks, one loss, one training loop.

``parameters`` what can be set · ``dense``, ``convolutional``, ``conditional``, ``mixed`` the networks, one
in each file · ``network`` chooses among them · ``loss`` · ``training`` the job · ``model`` a trained network
as plain numbers · ``reading`` what a trained network can be asked. Nothing heavy is imported here.
"""

from cell_curator.engines.vae.parameters import VaeParameters

__all__ = ["VaeParameters"]
