"""itmkit: image-text matching from photographs and captions to retrieval scores.

The pipeline, each stage a module and a command of the same name:

    prepare -> extract-regions -> parse-text -> build-graphs -> train -> evaluate
"""

__version__ = "0.1.0"
