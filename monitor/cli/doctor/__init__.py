"""The checks of `doctor`: each tries one part and returns findings. Nothing is stored, and no incident is changed."""
