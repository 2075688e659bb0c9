"""U-Net and U-Net++ as segmenters: their networks, how an image of any size is shown to them, and how they learn."""
