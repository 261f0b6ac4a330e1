"""Where documents come from: 0MQ, Kafka, Tiled, a RunEngine in this process."""
