"""RLDS datasets, folders of TFRecord shards as TensorFlow Datasets writes them, read at random without TensorFlow."""
