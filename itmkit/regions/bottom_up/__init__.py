"""Bottom-up attention on detectron2: the Visual Genome model with attributes, and any other Faster R-CNN.

`selection`, `attributes`, `weights` and `settings` need no detectron2; `network` and `stock` import it when called.
"""
