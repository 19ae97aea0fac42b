"""One model on several ranks: tensor, pipeline, data and mixed parallelism, and ZeRO."""
