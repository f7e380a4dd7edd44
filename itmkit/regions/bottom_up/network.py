"""The Visual Genome model with attributes, built from the classes of upstream detectron2.

Three subclasses make the difference to a stock ResNet-101 C4: the pooling of the stem, res5 without stride, and the
attribute layers. They are made when they are asked for, since detectron2 is optional.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from itmkit.errors import ItmkitError
from itmkit.regions.bottom_up.settings import ATTRIBUTE_COUNT, CLASSES, INSTALL, PROPOSALS

PIXEL_MEAN = (102.9801, 115.9465, 122.7717)  # BGR
SHORTEST, LONGEST = 600, 1000  # pixels of the picture's sides
FEATURES = 2048


def require_detectron2() -> None:
    """Raises ItmkitError, with how to install it, unless detectron2 and torchvision can be imported."""
    try:
        import detectron2.layers  # noqa: F401  (with its compiled part)
        import torchvision  # noqa: F401
    except ImportError as error:
        reason = str(error).strip().split("\n")[0]
        raise ItmkitError(
            f"--backend detectron2 needs detectron2, which cannot be imported ({reason}): {INSTALL}"
        ) from None


def attribute_model() -> Any:
    """A `GeneralizedRCNN` with random weights, on the CPU, for BGR pictures of `SHORTEST` x `LONGEST` pixels."""
    from detectron2.config import get_cfg
    from detectron2.modeling import GeneralizedRCNN, build_proposal_generator
    from detectron2.modeling.backbone.resnet import ResNet

    stem_class, heads_class = _classes()
    cfg = get_cfg()
    cfg.MODEL.MASK_ON = False
    cfg.MODEL.RESNETS.DEPTH = 101
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[64, 128, 256, 512]]
    cfg.MODEL.RPN.CONV_DIMS = [512]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 6000
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = PROPOSALS
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = CLASSES
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIPool"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14
    # said although they are the defaults: the weights need them
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.5, 1.0, 2.0]]
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = 0.0
    cfg.MODEL.RPN.NMS_THRESH = 0.7
    cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    norm = cfg.MODEL.RESNETS.NORM = "FrozenBN"
    in_first = cfg.MODEL.RESNETS.STRIDE_IN_1X1 = True
    backbone = ResNet(
        stem_class(3, 64, norm),
        ResNet.make_default_stages(101, norm=norm, stride_in_1x1=in_first),
        out_features=["res4"],
    )
    shape = backbone.output_shape()
    return GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=build_proposal_generator(cfg, shape),
        roi_heads=heads_class(cfg, shape),
        pixel_mean=PIXEL_MEAN,
        pixel_std=(1.0, 1.0, 1.0),
        input_format="BGR",
    )


@cache
def _classes() -> tuple[Any, Any]:
    """The stem and the heads; the third subclass, with the attribute layers, is part of the heads."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
    from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
    from detectron2.modeling.roi_heads.roi_heads import Res5ROIHeads
    from torch.nn import functional

    from itmkit.regions.bottom_up.attributes import AttributeHead

    class CaffeStem(BasicStem):  # type: ignore[misc]
        """Pools without padding, the last column and row included, as Caffe does."""

        def forward(self, pixels: Any) -> Any:
            return functional.max_pool2d(self.conv1(pixels).relu(), kernel_size=3, stride=2, padding=0, ceil_mode=True)

    class AttributeOutputs(FastRCNNOutputLayers):  # type: ignore[misc]
        """Classes and boxes as ever, and attributes by a method of their own."""

        def __init__(self, cfg: Any, shape: Any) -> None:
            super().__init__(cfg, shape)
            self.attributes = AttributeHead(shape.channels, self.num_classes, ATTRIBUTE_COUNT)

        def attribute_probabilities(self, features: Any, class_logits: Any) -> Any:
            """(n, 400) of features (n, 2048) and class logits (n, 1601)."""
            return self.attributes.probabilities(features, class_logits)

    class DilatedHeads(Res5ROIHeads):  # type: ignore[misc]
        """res5 keeps the 14 x 14 positions of the pooled box: stride 1, dilation 2."""

        @classmethod
        def from_config(cls, cfg: Any, input_shape: Any) -> Any:
            parts = super().from_config(cfg, input_shape)
            parts["box_predictor"] = AttributeOutputs(cfg, ShapeSpec(channels=FEATURES, height=1, width=1))
            return parts

        @classmethod
        def _build_res5_block(cls, cfg: Any) -> Any:
            from torch import nn

            blocks = ResNet.make_stage(
                BottleneckBlock,
                3,
                stride_per_block=[1, 1, 1],
                in_channels=FEATURES // 2,
                bottleneck_channels=FEATURES // 4,
                out_channels=FEATURES,
                norm=cfg.MODEL.RESNETS.NORM,
                stride_in_1x1=cfg.MODEL.RESNETS.STRIDE_IN_1X1,
                dilation=2,
            )
            return nn.Sequential(*blocks), FEATURES

    return CaffeStem, DilatedHeads
