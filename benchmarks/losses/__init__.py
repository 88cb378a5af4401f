"""The field's losses for segmentation and ours, trained under one protocol and compared."""
