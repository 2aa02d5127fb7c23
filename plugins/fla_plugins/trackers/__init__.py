"""Where the metrics of a training run go: a file of lines, TensorBoard, Weights & Biases."""
