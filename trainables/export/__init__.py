"""A trained model as a folder of plain files, as ONNX, and as MLflow loads it."""
