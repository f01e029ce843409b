"""The demonstration: a generated data set, and a job from training to prediction."""
