"""Pictures in, regions out: boxes, features, tags and colours, by a detector or by windows over a feature map."""
