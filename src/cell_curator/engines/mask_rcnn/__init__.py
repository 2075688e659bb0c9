"""Mask R-CNN: finds the cells of an image and says of which type each is, in one network (He et al. 2017).

``parameters`` what can be set · ``material`` what is learned from · ``network`` the layers and where their
weights start · ``training`` the job · ``model`` a trained network on disk · ``prediction`` cells of an image ·
``instances`` many masks as one label image · ``progress`` what is told on the way. Nothing heavy is imported here.
"""

from cell_curator.engines.mask_rcnn.parameters import MaskRcnnParameters
from cell_curator.engines.mask_rcnn.progress import FinderState

__all__ = ["FinderState", "MaskRcnnParameters"]
